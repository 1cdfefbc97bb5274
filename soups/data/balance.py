"""Class imbalance: oversampling of training rows, sampling probabilities and class weights of the loss."""

import math
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
    factors = [str(name) for name in rows.columns if name not in RESERVED_COLUMNS]
    columns = {name: rows[name].to_numpy(dtype=str) for name in ("label", *factors)}
    if AUTO in spec and len(spec) > 1:
        raise UsageError("--oversample auto", expected="auto alone", found=" ".join(spec))
    if tuple(spec) == (AUTO,):
        spec = [f"label={AUTO}"]
    times = np.ones(len(rows), dtype=np.int64)
    levels = {name: sorted(set(values)) for name, values in columns.items()}
    for (column, level), (name, text) in _parse_entries(spec, levels, "--oversample").items():
        if not level:
            times *= _even_repeats(columns[column])
        elif re.fullmatch(r"[1-9][0-9]{0,5}", text):
            times[columns[column] == level] *= int(text)
        else:
            raise UsageError(f"--oversample {name}={text}", expected="a whole number above zero, or auto alone")
    return np.repeat(np.arange(len(rows)), times)


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
    weights = np.ones(len(space))
    for (column, level), (name, text) in _parse_entries(spec, levels, "--class-weights").items():
        try:
            weight = float(text)
        except ValueError:
            weight = math.nan
        if not 0 < weight < math.inf:
            raise UsageError(f"--class-weights {name}={text}", expected="a number above zero, or auto alone")
        if column == "label":
            weights[space.names.index(level)] *= weight
        else:
            part = space.part([column])
            weights[space.projection(part) == part.names.index(level)] *= weight
    return weights


def sampling_probabilities(labels: np.ndarray) -> np.ndarray:
    """Return (N,) float64 probabilities, summing to one, that draw every class equally often from (N,) labels."""
    counts = np.bincount(labels)
    weights = 1.0 / counts[labels]
    return weights / weights.sum()


def _parse_entries(
    spec: Sequence[str], levels: dict[str, list[str]], flag: str
) -> dict[tuple[str, str], tuple[str, str]]:
    """Parse entries `NAME=VALUE` of a flag; the last `=` separates them, so NAME may contain `=`.

    Args:
        spec: the entries.
        levels: column → its values: the classes under `label`, and the levels of each factor.
        flag: the flag, for messages.

    Returns:
        Column and class or level → NAME and VALUE. For `FACTOR=auto`, the level is "".

    Raises:
        UsageError: an entry has another form, or a name is unknown, ambiguous or repeated.
    """
    found: dict[tuple[str, str], tuple[str, str]] = {}
    for entry in spec:
        name, _, value = entry.rpartition("=")
        if not name or not value:
            expected = f"CLASS=NUMBER, LEVEL=NUMBER or FACTOR=LEVEL=NUMBER, or {AUTO} alone"
            raise UsageError(f"{flag} {entry}", expected=expected)
        key = (name, "") if value == AUTO and name in levels else _resolve_name(name, levels, flag)
        if key in found:
            raise UsageError(f"{flag} names {name} twice", expected="each class and level once")
        found[key] = name, value
    return found


def _resolve_name(name: str, levels: dict[str, list[str]], flag: str) -> tuple[str, str]:
    """Return the column (`label` or a factor) and the class or level that a name refers to.

    Raises:
        UsageError: the name is unknown, or a level of several factors.
    """
    factor, _, level = name.partition("=")
    if level in levels.get(factor, ()):
        return factor, level
    if name in levels["label"]:
        return "label", name
    factors = [factor for factor, own in levels.items() if name in own]
    if len(factors) == 1:
        return factors[0], name
    if factors:
        expected = " or ".join(f"{factor}={name}" for factor in factors)
        raise UsageError(f"{flag} {name}: a level of {' and of '.join(factors)}", expected=expected)
    known = [*(level for factor, own in levels.items() if factor != "label" for level in own), *levels["label"]]
    raise unknown_name(f"class or level in {flag}", name, list(dict.fromkeys(known)))


def _even_repeats(values: np.ndarray) -> np.ndarray:
    """Return (N,) int64 repeats of each row, with which every value occurs as often as the most frequent one."""
    names, owner, counts = np.unique(values, return_inverse=True, return_counts=True)
    times = np.zeros(len(values), dtype=np.int64)
    for index in range(len(names)):
        positions, target = np.flatnonzero(owner == index), counts.max()
        np.add.at(times, positions[np.arange(target) * len(positions) // target], 1)
    return times
