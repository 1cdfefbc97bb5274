"""Label spaces: ordered class names, conversion between names and indices, and factors (labels as products)."""

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product

import numpy as np

from soups.core.errors import DataError, UsageError, unknown_name

SEPARATOR = "/"
"""Separates the factor levels in a class name: `mask/female/old`."""


@dataclass(frozen=True)
class Factor:
    """One attribute of a label with its ordered levels, for example `age` with young, middle and old."""

    name: str
    levels: tuple[str, ...]

    def __post_init__(self) -> None:
        if len(self.levels) < 2 or len(set(self.levels)) < len(self.levels):
            found = ", ".join(self.levels) or "none"
            raise DataError(f"factor {self.name!r}: its levels", expected="at least two, all different", found=found)


@dataclass(frozen=True)
class LabelSpace:
    """Ordered, distinct class names. Models and tables are aligned by name, never by index alone.

    If `factors` is not empty, a class name joins one level of each factor, in the order of the factors, and the first
    factor's level changes slowest: for mask (3) × gender (2) × age (3), the class is mask·6 + gender·3 + age.

    Raises:
        DataError: a name appears twice, or the names are not exactly all products of the factors' levels.
    """

    names: tuple[str, ...]
    factors: tuple[Factor, ...] = ()

    def __post_init__(self) -> None:
        for values, kind in ((self.names, "class names"), (self.factor_names, "factors")):
            if repeated := sorted(name for name, times in Counter(values).items() if times > 1):
                raise DataError(f"{kind} appear twice: {', '.join(repeated)}", expected=f"distinct {kind}")
        for factor in self.factors:
            for text in (factor.name, *factor.levels):
                if not text or SEPARATOR in text or "=" in text or text != text.strip():
                    expected = f"names without {SEPARATOR}, = or spaces around them"
                    raise DataError(f"factor {factor.name!r}: {text!r} cannot be a name", expected=expected)
        if self.factors and set(self.names) != set(_join_levels(self.factors)):
            raise DataError(
                "class names that are not the products of the factors",
                expected=", ".join(_join_levels(self.factors)),
                found=", ".join(self.names),
            )

    @classmethod
    def product(cls, factors: Iterable[Factor]) -> "LabelSpace":
        """Return the space of all products of the factors' levels; the first factor's level changes slowest."""
        factors = tuple(factors)
        return cls(_join_levels(factors), factors)

    def __len__(self) -> int:
        return len(self.names)

    def __str__(self) -> str:
        factors = " × ".join(f"{factor.name} ({', '.join(factor.levels)})" for factor in self.factors)
        return factors or f"the classes {', '.join(self.names)}"

    @property
    def factor_names(self) -> tuple[str, ...]:
        """Return the factors' names; empty for labels without factors."""
        return tuple(factor.name for factor in self.factors)

    @property
    def factor_levels(self) -> tuple[tuple[str, tuple[str, ...]], ...]:
        """Return name and levels of each factor, in the form of the card field `factors`."""
        return tuple((factor.name, factor.levels) for factor in self.factors)

    def part(self, names: Collection[str]) -> "LabelSpace":
        """Return the space of the named factors, in this space's order of factors.

        Raises:
            UsageError: a name is not a factor of this space.
        """
        for name in names:
            if name not in self.factor_names:
                raise unknown_name("factor", name, self.factor_names)
        return LabelSpace.product(factor for factor in self.factors if factor.name in names)

    def projection(self, part: "LabelSpace") -> np.ndarray:
        """Return for each class the index of its class in `part`: (C,) int64 in [0, C of part).

        Raises:
            DataError: a factor of `part` is not in this space, or has other levels here.
        """
        if not part.factors or not set(part.factors) <= set(self.factors):
            raise DataError("classes of other factors", expected=str(self), found=str(part))
        columns = [self.factor_names.index(name) for name in part.factor_names]
        level_lists = [name.split(SEPARATOR) for name in self.names]
        return part.encode(SEPARATOR.join(levels[column] for column in columns) for levels in level_lists)

    def marginal(self, probabilities: np.ndarray, part: "LabelSpace") -> np.ndarray:
        """Sum probabilities over the factors that `part` lacks: (N, C) to (N, C of part), float64.

        Raises:
            DataError: as `projection`.
        """
        target = self.projection(part)
        result = np.zeros((len(probabilities), len(part)), dtype=np.float64)
        for index in range(len(self)):  # Class by class, because a scatter-add over the rows is ten times slower.
            result[:, target[index]] += probabilities[:, index]
        return result

    @cached_property
    def _index(self) -> dict[str, int]:
        return {name: index for index, name in enumerate(self.names)}

    @classmethod
    def of(cls, labels: Iterable[str], order: Sequence[str] | None = None) -> "LabelSpace":
        """Return the space of the labels that occur, in string order or in `order`.

        Raises:
            UsageError: `order` lacks a class that occurs, or has one that does not occur.
        """
        occurring = sorted(set(labels))
        if order is None:
            return cls(tuple(occurring))
        missing, foreign = sorted(set(occurring) - set(order)), sorted(set(order) - set(occurring))
        if missing or foreign:
            differences = [(f"without {', '.join(missing)}", missing), (f"also {', '.join(foreign)}", foreign)]
            raise UsageError(
                "--class-order: the names are not those of the data's classes",
                expected=f"each of {', '.join(occurring)} once",
                found="; ".join(text for text, names in differences if names),
            )
        return cls(tuple(order))

    def encode(self, labels: Iterable[str]) -> np.ndarray:
        """Return the indices, (N,) int64, of class names.

        Raises:
            DataError: a label is not in the space; the message names it.
        """
        labels = list(labels)
        unknown = sorted(set(labels) - set(self.names))
        if unknown:
            problem = f"labels that are not classes of this model: {', '.join(map(repr, unknown[:5]))}"
            raise DataError(problem, expected=f"one of {', '.join(self.names)}")
        return np.array([self._index[label] for label in labels], dtype=np.int64)

    def decode(self, indices: Iterable[int]) -> list[str]:
        """Return the class names of indices in [0, C)."""
        return [self.names[int(index)] for index in indices]

    def read_column(self, values: Iterable[str]) -> list[str]:
        """Return class names from a column of names or of indices (as text).

        If all values are class names, the column is read as names, even if a class is called "1"; otherwise as indices.

        Raises:
            DataError: a value is neither, or some values are names and others indices; the message quotes the first
                such value.
        """
        values = [str(value).strip() for value in values]
        not_names = [value for value in values if value not in self._index]
        if not not_names:
            return values
        not_indices = [value for value in values if not (value.isdecimal() and int(value) < len(self))]
        if not not_indices:
            return [self.names[int(value)] for value in values]
        neither = [value for value in not_indices if value not in self._index]
        if neither:
            expected = f"one of {', '.join(self.names)}, or 0 to {len(self) - 1}"
            raise DataError(f"{neither[0]!r} is neither a class name nor an index", expected=expected)
        found = f"{not_indices[0]!r} and {not_names[0]!r}"
        raise DataError("labels are partly names and partly indices", expected="one of the two throughout", found=found)


def _join_levels(factors: Sequence[Factor]) -> tuple[str, ...]:
    return tuple(SEPARATOR.join(levels) for levels in product(*(factor.levels for factor in factors)))
