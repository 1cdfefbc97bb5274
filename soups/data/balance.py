"""Class imbalance: oversampling of training rows, sampling probabilities and class weights of the loss."""

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from soups.core.errors import UsageError, unknown_name
from soups.core.labels import LabelSpace
from soups.data.layouts.schema import RESERVED_COLUMNS

if TYPE_CHECKING:
    import pandas as pd

AUTO = "auto"


def oversample(rows: "pd.DataFrame", spec: Sequence[str]) -> np.ndarray:
    """Return positions of training rows, with rows of rare classes repeated.

    Args:
        rows: training rows only; columns other than `RESERVED_COLUMNS` are factors.
        spec: entries `NAME=TIMES`, where NAME is a class, a level of a factor, or `FACTOR=LEVEL`: each such row occurs
            TIMES times, a whole number; if several entries match a row, the product. `auto` alone repeats the rows of
            each class evenly up to the size of the largest class, `FACTOR=auto` those of each level. Empty: each row
            once.

    Returns:
        (K,) int64, ascending, positions in `rows` (not index labels).

    Raises:
        UsageError: a name is unknown, ambiguous or repeated, or TIMES is not a whole number above zero.
    """
    assert (rows["split"] == "train").all(), "oversampling repeats only training rows"
    columns = {name: rows[name].to_numpy(dtype=str) for name in ("label", *_factor_columns(rows))}
    names = _NameResolver({name: sorted(set(values)) for name, values in columns.items()}, "--oversample")
    if AUTO in spec and len(spec) > 1:
        raise UsageError("--oversample auto", expected="auto alone", found=" ".join(spec))
    times = np.ones(len(rows), dtype=np.int64)
    for entry, text in [("label", AUTO)] if tuple(spec) == (AUTO,) else names.parse(spec):
        if text == AUTO:
            times *= _even_repeats(columns[entry])
        else:
            column, level = names.resolve(entry)
            times[columns[column] == level] *= _parse_repeats(entry, text)
    return np.repeat(np.arange(len(rows)), times).astype(np.int64)


def class_weights(spec: Sequence[str], labels: np.ndarray, space: LabelSpace) -> np.ndarray:
    """Return the weight of each class in the loss.

    Args:
        spec: `auto` alone for the inverse class frequency; or entries `NAME=WEIGHT`, where NAME is a class, a level of
            a factor, or `FACTOR=LEVEL`. If several entries match a class, its weight is their product; without a match
            it is 1.
        labels: (N,) int64 training labels.
        space: C classes.

    Returns:
        (C,) float64. With `auto`, the mean over the images is 1 and a class without images has weight 1.

    Raises:
        UsageError: a name is unknown, ambiguous or repeated, or WEIGHT is not a number above zero.
    """
    if tuple(spec) == (AUTO,):
        counts = np.bincount(labels, minlength=len(space))
        occurring = np.count_nonzero(counts)
        return np.where(counts > 0, len(labels) / (occurring * np.maximum(counts, 1)), 1.0)
    levels = {"label": list(space.names), **{factor.name: list(factor.levels) for factor in space.factors}}
    names, weights = _NameResolver(levels, "--class-weights"), np.ones(len(space))
    for entry, text in names.parse(spec):
        column, level = names.resolve(entry)
        if column == "label":
            weights[space.names.index(level)] *= _parse_weight(entry, text)
        else:
            part = space.part([column])
            weights[space.projection(part) == part.names.index(level)] *= _parse_weight(entry, text)
    return weights


def sampling_probabilities(labels: np.ndarray) -> np.ndarray:
    """Return (N,) float64 probabilities, summing to one, that draw every class equally often from (N,) labels."""
    counts = np.bincount(labels)
    weights = 1.0 / counts[labels]
    return weights / weights.sum()


class _NameResolver:
    """Resolves the names in entries of a flag to classes and to levels of factors."""

    def __init__(self, levels: dict[str, list[str]], flag: str) -> None:
        self.levels, self.flag = levels, flag

    def parse(self, spec: Sequence[str]) -> list[tuple[str, str]]:
        """Return NAME and value of each entry `NAME=VALUE`; the last `=` separates them, so NAME may contain `=`.

        Raises:
            UsageError: an entry has another form, or a name is unknown, ambiguous or repeated.
        """
        found: dict[tuple[str, str], tuple[str, str]] = {}
        for entry in spec:
            name, sign, value = entry.rpartition("=")
            if not sign or not name or not value:
                expected = f"CLASS=NUMBER, LEVEL=NUMBER or FACTOR=LEVEL=NUMBER, or {AUTO} alone"
                raise UsageError(f"{self.flag} {entry}", expected=expected)
            key = (name, "") if value == AUTO and name in self.levels else self.resolve(name)
            if key in found:
                raise UsageError(f"{self.flag} names {name} twice", expected="each class and level once")
            found[key] = name, value
        return list(found.values())

    def resolve(self, name: str) -> tuple[str, str]:
        """Return the column (`label` or a factor) and the class or level that a name refers to.

        Raises:
            UsageError: the name is unknown, or a level of several factors.
        """
        factor, sign, level = name.partition("=")
        if sign and factor in self.levels and level in self.levels[factor]:
            return factor, level
        if name in self.levels["label"]:
            return "label", name
        factors = [factor for factor, levels in self.levels.items() if name in levels]
        if len(factors) == 1:
            return factors[0], name
        if factors:
            raise UsageError(
                f"{self.flag} {name}: a level of {' and of '.join(factors)}",
                expected=" or ".join(f"{factor}={name}" for factor in factors),
            )
        raise unknown_name(f"class or level in {self.flag}", name, _known_names(self.levels))


def _known_names(levels: dict[str, list[str]]) -> list[str]:
    """Return all levels of factors, then all classes, each name once."""
    factor_levels = [level for factor, own in levels.items() if factor != "label" for level in own]
    return list(dict.fromkeys([*factor_levels, *levels["label"]]))


def _factor_columns(rows: "pd.DataFrame") -> list[str]:
    return [str(name) for name in rows.columns if name not in RESERVED_COLUMNS]


def _even_repeats(values: np.ndarray) -> np.ndarray:
    """Return (N,) int64 repeats of each row, with which every value occurs as often as the most frequent one."""
    names, owner, counts = np.unique(values, return_inverse=True, return_counts=True)
    times = np.zeros(len(values), dtype=np.int64)
    for index in range(len(names)):
        positions, target = np.flatnonzero(owner == index), counts.max()
        np.add.at(times, positions[np.arange(target) * len(positions) // target], 1)
    return times


def _parse_repeats(name: str, text: str) -> int:
    if not re.fullmatch(r"[1-9][0-9]{0,5}", text):
        raise UsageError(f"--oversample {name}={text}", expected="a whole number above zero, or auto alone")
    return int(text)


def _parse_weight(name: str, text: str) -> float:
    try:
        weight = float(text)
    except ValueError:
        weight = float("nan")
    if not 0 < weight < float("inf"):
        raise UsageError(f"--class-weights {name}={text}", expected="a number above zero, or auto alone")
    return weight
