"""Rare classes: training rows repeated, drawn more often, or weighed more."""

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
    """Positions of training rows, those of rare classes repeated.

    Args:
        rows: training rows alone; columns besides those of every table are factors.
        spec: entries `NAME=TIMES`, where NAME is a class, a level of a factor, or `FACTOR=LEVEL` (each such row occurs
            TIMES times, a whole number; a row that several entries mean, their product); or `auto` alone (each class is
            repeated evenly up to the size of the largest), or `FACTOR=auto`; nothing: each row once.

    Returns:
        (K,) int64, rising, positions in `rows` (not index labels).

    Raises:
        UsageError: an unknown, ambiguous or doubled name, or TIMES that is no whole number above zero.
    """
    assert (rows["split"] == "train").all(), "only training rows may be repeated"
    columns = {name: rows[name].to_numpy(dtype=str) for name in ("label", *_factor_columns(rows))}
    names = _NameResolver({name: sorted(set(values)) for name, values in columns.items()}, "--oversample")
    if AUTO in spec and len(spec) > 1:
        raise UsageError("--oversample auto", expected="auto alone", found=" ".join(spec))
    times = np.ones(len(rows), dtype=np.int64)
    for entry, text in [("label", AUTO)] if tuple(spec) == (AUTO,) else names.read(spec):
        if text == AUTO:
            times *= _even_repeats(columns[entry])
        else:
            column, level = names.place(entry)
            times[columns[column] == level] *= _parse_repeats(entry, text)
    return np.repeat(np.arange(len(rows)), times).astype(np.int64)


def class_weights(spec: Sequence[str], labels: np.ndarray, space: LabelSpace) -> np.ndarray:
    """How much an image of each class counts in the loss.

    Args:
        spec: `auto` alone (the inverse of the class's share, so that all classes count alike); or entries
            `NAME=WEIGHT`, where NAME is a class, a level of a factor, or `FACTOR=LEVEL` (a class that several entries
            mean has their product, all others 1).
        labels: (N,) int64 training labels.
        space: C classes.

    Returns:
        (C,) float64. With `auto` their mean over the images is 1; a class without images has 1.

    Raises:
        UsageError: an unknown, ambiguous or doubled name, or a WEIGHT that is no number above zero.
    """
    if tuple(spec) == (AUTO,):
        counts = np.bincount(labels, minlength=len(space))
        occurring = np.count_nonzero(counts)
        return np.where(counts > 0, len(labels) / (occurring * np.maximum(counts, 1)), 1.0)
    levels = {"label": list(space.names), **{factor.name: list(factor.levels) for factor in space.factors}}
    names, weights = _NameResolver(levels, "--class-weights"), np.ones(len(space))
    for entry, text in names.read(spec):
        column, level = names.place(entry)
        if column == "label":
            weights[space.names.index(level)] *= _parse_weight(entry, text)
        else:
            part = space.part([column])
            weights[space.projection(part) == part.names.index(level)] *= _parse_weight(entry, text)
    return weights


def sampling_probabilities(labels: np.ndarray) -> np.ndarray:
    """(N,) float64 chances, summing to one, with which each training image is drawn so that all classes come alike."""
    counts = np.bincount(labels)
    chances = 1.0 / counts[labels]
    return chances / chances.sum()


class _NameResolver:
    """The classes, factors and levels that an entry can name."""

    def __init__(self, levels: dict[str, list[str]], flag: str) -> None:
        self.levels, self.flag = levels, flag

    def read(self, spec: Sequence[str]) -> list[tuple[str, str]]:
        """NAME and value of each entry, each name once.

        A name may itself hold `=`: the value is what follows the last one.
        """
        found: dict[tuple[str, str], tuple[str, str]] = {}
        for entry in spec:
            name, sign, value = entry.rpartition("=")
            if not sign or not name or not value:
                expected = f"CLASS=NUMBER, LEVEL=NUMBER or FACTOR=LEVEL=NUMBER, or {AUTO} alone"
                raise UsageError(f"{self.flag} {entry}", expected=expected)
            place = (name, "") if value == AUTO and name in self.levels else self.place(name)
            if place in found:
                raise UsageError(f"{self.flag} names {name} twice", expected="each class and level once")
            found[place] = name, value
        return list(found.values())

    def place(self, name: str) -> tuple[str, str]:
        """The column (`label` or a factor) and the class or level that a name means.

        Raises:
            UsageError: it means nothing, or a level of several factors.
        """
        factor, sign, level = name.partition("=")
        if sign and factor in self.levels and level in self.levels[factor]:
            return factor, level
        if name in self.levels["label"]:
            return "label", name
        places = [factor for factor, levels in self.levels.items() if name in levels]
        if len(places) == 1:
            return places[0], name
        if places:
            raise UsageError(
                f"{self.flag} {name}: a level of {' and of '.join(places)}",
                expected=" or ".join(f"{factor}={name}" for factor in places),
            )
        raise unknown_name(f"class or level in {self.flag}", name, _known_names(self.levels))


def _known_names(levels: dict[str, list[str]]) -> list[str]:
    """Classes and levels, the levels first, each once."""
    factors = [level for factor, own in levels.items() if factor != "label" for level in own]
    return list(dict.fromkeys([*factors, *levels["label"]]))


def _factor_columns(rows: "pd.DataFrame") -> list[str]:
    return [str(name) for name in rows.columns if name not in RESERVED_COLUMNS]


def _even_repeats(values: np.ndarray) -> np.ndarray:
    """How often each row occurs so that every value occurs as often as the most frequent one: (N,) int64."""
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
