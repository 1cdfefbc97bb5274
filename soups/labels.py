"""Label spaces: ordered class names, and the way between names and indices."""

from collections import Counter
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
        doubled = sorted(name for name, times in Counter(self.names).items() if times > 1)
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
