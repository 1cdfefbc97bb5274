"""Label spaces: ordered class names, and the way between names and indices."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from soups.errors import DataError, UsageError


@dataclass(frozen=True)
class LabelSpace:
    """Ordered, distinct class names. Models and tables are aligned by name, never by index alone."""

    names: tuple[str, ...]

    def __post_init__(self) -> None:
        doubled = sorted({name for name in self.names if self.names.count(name) > 1})
        if doubled:
            raise DataError(f"class names appear twice: {', '.join(doubled)}", expected="distinct class names")

    def __len__(self) -> int:
        return len(self.names)

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

        A value that is a class name counts as a name, so a class called "1" is never taken for an index unless every
        value of the column is an index and some value is no name.

        Raises:
            DataError: a value is neither.
        """
        values = [str(value).strip() for value in values]
        if all(value in self._index for value in values):
            return values
        if all(value.isdecimal() and int(value) < len(self) for value in values):
            return self.decode(map(int, values))
        wrong = next(v for v in values if v not in self._index and not (v.isdecimal() and int(v) < len(self)))
        raise DataError(
            f"{wrong!r} is neither a class name nor an index",
            expected=f"one of {', '.join(self.names)}, or 0 to {len(self) - 1}",
        )
