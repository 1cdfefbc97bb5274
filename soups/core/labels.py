"""Label spaces: ordered class names, the way between names and indices, and the factors that names are made of."""

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product

import numpy as np

from soups.core.errors import DataError, UsageError, unknown_name

SEPARATOR = "/"
"""Between the levels in a class name: `mask/female/old`."""


@dataclass(frozen=True)
class Factor:
    """One of the questions that a label answers, with its possible answers in order: `age` is young, middle or old."""

    name: str
    levels: tuple[str, ...]

    def __post_init__(self) -> None:
        for text in (self.name, *self.levels):
            if not text or SEPARATOR in text or "=" in text or text != text.strip():
                expected = f"names without {SEPARATOR}, = or spaces around them"
                raise DataError(f"factor {self.name!r}: {text!r} cannot be a name", expected=expected)
        if len(self.levels) < 2 or len(set(self.levels)) < len(self.levels):
            found = ", ".join(self.levels) or "none"
            raise DataError(f"factor {self.name!r}: its levels", expected="at least two, all different", found=found)


@dataclass(frozen=True)
class LabelSpace:
    """Ordered, distinct class names. Models and tables are aligned by name, never by index alone.

    Where labels are products of factors, a class name is one level of each factor, in the order of the factors, and
    the first factor's level changes slowest: of mask (3) × gender (2) × age (3), class mask·6 + gender·3 + age.

    Raises:
        DataError: a name is there twice, or the names are not all products of the factors' levels.
    """

    names: tuple[str, ...]
    factors: tuple[Factor, ...] = ()

    def __post_init__(self) -> None:
        doubled = sorted(name for name, times in Counter(self.names).items() if times > 1)
        if doubled:
            raise DataError(f"class names appear twice: {', '.join(doubled)}", expected="distinct class names")
        if doubled := sorted(n for n, times in Counter(factor.name for factor in self.factors).items() if times > 1):
            raise DataError(f"factors appear twice: {', '.join(doubled)}", expected="distinct factors")
        if self.factors and set(self.names) != set(_products(self.factors)):
            raise DataError(
                "class names that are not the products of the factors",
                expected=", ".join(_products(self.factors)),
                found=", ".join(self.names),
            )

    @classmethod
    def product(cls, factors: Iterable[Factor]) -> "LabelSpace":
        """All products of the factors' levels, the first factor's level changing slowest."""
        factors = tuple(factors)
        return cls(_products(factors), factors)

    def __len__(self) -> int:
        return len(self.names)

    def __str__(self) -> str:
        return " × ".join(map(_described, self.factors)) or f"the classes {', '.join(self.names)}"

    @property
    def factor_names(self) -> tuple[str, ...]:
        """The factors' names; none where labels are not made of factors."""
        return tuple(factor.name for factor in self.factors)

    @property
    def described(self) -> tuple[tuple[str, tuple[str, ...]], ...]:
        """Name and levels of each factor, as cards and records have them."""
        return tuple((factor.name, factor.levels) for factor in self.factors)

    def part(self, names: Collection[str]) -> "LabelSpace":
        """The space of some of the factors, in this space's order of factors.

        Raises:
            UsageError: a name that is no factor of this space.
        """
        for name in names:
            if name not in self.factor_names:
                raise unknown_name("factor", name, self.factor_names)
        return LabelSpace.product(factor for factor in self.factors if factor.name in names)

    def projection(self, part: "LabelSpace") -> np.ndarray:
        """For each class, the class of `part` that it belongs to: (C,) int64 in [0, C of part).

        Raises:
            DataError: a factor of `part` is none of this space's, or has other levels here.
        """
        if not part.factors or not set(part.factors) <= set(self.factors):
            raise DataError(
                "classes of other factors",
                expected=str(self),
                found=str(part),
            )
        places = [self.factor_names.index(name) for name in part.factor_names]
        chosen = [name.split(SEPARATOR) for name in self.names]
        return part.encode(SEPARATOR.join(levels[place] for place in places) for levels in chosen)

    def marginal(self, probabilities: np.ndarray, part: "LabelSpace") -> np.ndarray:
        """A distribution over some of the factors: (N, C) to (N, C of part), sums over the others.

        Raises:
            DataError: as `projection`.
        """
        owner = self.projection(part)
        result = np.zeros((len(probabilities), len(part)), dtype=np.float64)
        for index in range(len(self)):  # One class after the other: a scatter-add over the rows is ten times slower.
            result[:, owner[index]] += probabilities[:, index]
        return result

    @cached_property
    def _index(self) -> dict[str, int]:
        return {name: index for index, name in enumerate(self.names)}

    @classmethod
    def of(cls, labels: Iterable[str], order: Sequence[str] | None = None) -> "LabelSpace":
        """The space of the labels that occur, in string order or in `order`.

        Raises:
            UsageError: `order` lacks a class that occurs or names one that does not.
        """
        occurring = sorted(set(labels))
        if order is None:
            return cls(tuple(occurring))
        missing, foreign = sorted(set(occurring) - set(order)), sorted(set(order) - set(occurring))
        if missing or foreign:
            raise UsageError(
                "--class-order does not fit the data",
                expected=f"each of {', '.join(occurring)} once",
                found="; ".join(
                    [f"without {', '.join(missing)}"] * bool(missing) + [f"also {', '.join(foreign)}"] * bool(foreign)
                ),
            )
        return cls(tuple(order))

    def encode(self, labels: Iterable[str]) -> np.ndarray:
        """Indices, (N,) int64, of class names.

        Raises:
            DataError: a label is not in the space; names it.
        """
        labels = list(labels)
        unknown = sorted(set(labels) - set(self.names))
        if unknown:
            raise DataError(
                f"labels that are no class of this model: {', '.join(map(repr, unknown[:5]))}",
                expected=f"one of {', '.join(self.names)}",
            )
        return np.array([self._index[label] for label in labels], dtype=np.int64)

    def decode(self, indices: Iterable[int]) -> list[str]:
        """Class names of indices in [0, C)."""
        return [self.names[int(index)] for index in indices]

    def read_column(self, values: Iterable[str]) -> list[str]:
        """Class names from a column that holds names or indices (as text).

        A column whose values are all class names holds names, even where a class is called "1"; else it holds indices.

        Raises:
            DataError: a value is neither, or some values are names and others indices; names the first culprit.
        """
        values = [str(value).strip() for value in values]
        distinct = set(values)
        if distinct <= self._index.keys():
            return values
        if all(self._is_index(value) for value in distinct):
            named = {value: self.names[int(value)] for value in distinct}
            return [named[value] for value in values]
        wrong = next((v for v in values if v not in self._index and not self._is_index(v)), None)
        if wrong is None:
            name = next(value for value in values if not self._is_index(value))
            index = next(value for value in values if value not in self._index)
            raise DataError(
                "labels are partly names and partly indices",
                expected="one of the two throughout",
                found=f"{name!r} and {index!r}",
            )
        raise DataError(
            f"{wrong!r} is neither a class name nor an index",
            expected=f"one of {', '.join(self.names)}, or 0 to {len(self) - 1}",
        )

    def _is_index(self, value: str) -> bool:
        return value.isdecimal() and int(value) < len(self)


def _products(factors: Sequence[Factor]) -> tuple[str, ...]:
    return tuple(SEPARATOR.join(levels) for levels in product(*(factor.levels for factor in factors)))


def _described(factor: Factor) -> str:
    return f"{factor.name} ({', '.join(factor.levels)})"
