"""Comparison of models and votes on the same images: scores with intervals, and an exact test against the first."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from soups.core.errors import DataError
from soups.core.scores import calibration_error, correct, log_loss
from soups.core.statistics import bootstrap_interval, bootstrap_mean_interval, mcnemar
from soups.ensembles.temperature import fit_temperature, scale_by_temperature, to_log_probabilities
from soups.report import tables

_KEYS = (
    *("name", "val", "val_crossfitted", "val_crossfitted_low", "val_crossfitted_high", "val_crossfitted_log_loss"),
    *("test", "test_low", "test_high", "gain", "gain_low", "gain_high", "shift", "shift_low", "shift_high"),
    *("test_log_loss", "temperature", "test_calibration_error", "images_per_second", "models", "p", "note"),
)
"""Keys of a row, in the order of the columns of `comparison.csv`."""
_LEGEND = {
    "val_crossfitted": "validation flatters what was chosen on it; cross-fitted: chosen and calibrated on the other"
    " folds of the validation images",
    "test_log_loss": "log-loss: on the test images, in nats; calibration: expected calibration error there, in %, at"
    " the temperature fitted on validation",
    "images_per_second": "images/s: one model measured on this machine, from pixels in memory; a vote of M models:"
    " that / M",
}
"""Key of a row → note below the table if any row has a value."""


@dataclass(frozen=True)
class SetTruth:
    """The labels of one set of images."""

    labels: np.ndarray
    """(N,) int64."""
    groups: np.ndarray | None = None
    """(N,) names of the writers, persons, scenes; None: each image is a group of its own."""


@dataclass(frozen=True)
class ComparisonRow:
    """A model or a vote to compare."""

    name: str
    outputs: Mapping[str, np.ndarray]
    """Set name → (N, C) float64 probabilities, or vote shares."""
    shares: bool = False
    """Whether the outputs are vote shares (hard voting): they give an accuracy, but no log-loss or calibration."""
    note: str = ""
    """Sentence below the table, such as a soup's summary."""
    models: int = 1
    """Number of models that a prediction takes."""
    crossfitted: np.ndarray | None = None
    """(N, 3) answers for the validation images by models that were chosen without them: predicted class, its
    probability, probability of the true class; None: not measured."""


def compare(
    entries: Sequence[ComparisonRow],
    sets: Mapping[str, SetTruth],
    *,
    shifts: Sequence[str] = (),
    speed: float | None = None,
    repeats: int = 2000,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """Score models and votes on the same images.

    Args:
        entries: in the order of the rows; the others are tested against the first.
        sets: labels by set name; `val` gives the validation columns, `test` the test columns, the paired gains and
            McNemar's test. The columns of a missing set stay empty; without `test`, gains and test are those of the
            cross-fitted answers on `val`.
        shifts: sets whose accuracies are averaged with equal weights.
        speed: images per second through one model; a vote of M models reaches 1/M of it.
        repeats: resamples of each 95% interval, which resamples groups.
        seed: of the resampling; the same for all rows, so that they face the same resamples.

    Returns:
        A dict per entry: `name`; accuracies in [0, 1]: `val`, `val_crossfitted`, `test`, `gain` (paired, over the first
        row) and `shift`, all but the first with `_low` and `_high`; `val_crossfitted_log_loss` and `test_log_loss`
        (nats), `temperature` (fitted on validation), `test_calibration_error` (in [0, 1], at that temperature),
        `images_per_second`, `models`, `p` (exact McNemar test against the first row), `note`; None for values that
        are not known.

    Raises:
        DataError: an entry lacks a set or has another number of images than its labels; names both.
    """
    shifts = [name for name in shifts if name in sets]
    scored = [name for name in ("val", "test", *shifts) if name in sets]
    hits = [{name: _correct_predictions(entry, name, sets[name]) for name in scored} for entry in entries]
    for entry, own in zip(entries, hits, strict=True):
        if entry.crossfitted is not None and "val" in sets:
            own["val_crossfitted"] = entry.crossfitted[:, 0] == sets["val"].labels
    paired = "test" if "test" in sets else "val_crossfitted"
    rows = []
    for entry, own in zip(entries, hits, strict=True):
        row: dict[str, Any] = dict.fromkeys(_KEYS)
        row |= {"name": entry.name, "models": entry.models, "note": entry.note}
        if speed is not None:
            row["images_per_second"] = speed / entry.models
        if "val" in own:
            row["val"] = float(own["val"].mean())
        for name in ("val_crossfitted", "test"):
            if name in own:
                groups = sets[name.removesuffix("_crossfitted")].groups
                row |= _with_interval(name, own[name], groups, repeats, seed)
        if entry.crossfitted is not None and "val" in sets:
            row["val_crossfitted_log_loss"] = _mean_log_loss(entry.crossfitted[:, 2])
        if "test" in own and not entry.shares:
            row |= _probability_scores(entry.outputs, sets)
        if own is not hits[0] and paired in own and paired in hits[0]:
            groups = sets[paired.removesuffix("_crossfitted")].groups
            gains = own[paired].astype(np.float64) - hits[0][paired]
            row |= _with_interval("gain", gains, groups, repeats, seed)
            row["p"] = mcnemar(own[paired], hits[0][paired])
        if shifts:
            row["shift"] = float(np.mean([own[name].mean() for name in shifts]))
            shifted = [(own[name], sets[name].groups) for name in shifts]
            row["shift_low"], row["shift_high"] = bootstrap_mean_interval(shifted, repeats=repeats, seed=seed)
        rows.append(row)
    return rows


def _with_interval(
    key: str, values: np.ndarray, groups: np.ndarray | None, repeats: int, seed: int
) -> dict[str, float]:
    low, high = bootstrap_interval(values, groups, repeats=repeats, seed=seed)
    return {key: float(values.mean()), f"{key}_low": low, f"{key}_high": high}


def _mean_log_loss(true_class: np.ndarray) -> float:
    return float(-np.log(np.clip(true_class, np.finfo(np.float64).eps, 1.0)).mean())


def _probability_scores(outputs: Mapping[str, np.ndarray], sets: Mapping[str, SetTruth]) -> dict[str, float]:
    """Return test log-loss, and calibration at the temperature fitted on validation."""
    scores = {"test_log_loss": log_loss(outputs["test"], sets["test"].labels)}
    if "val" in sets:
        scores["temperature"] = fit_temperature(to_log_probabilities(outputs["val"]), sets["val"].labels)
        scaled = scale_by_temperature(outputs["test"], scores["temperature"])
        scores["test_calibration_error"] = calibration_error(scaled, sets["test"].labels)
    return scores


def _correct_predictions(entry: ComparisonRow, name: str, truth: SetTruth) -> np.ndarray:
    outputs = entry.outputs.get(name)
    if outputs is None or len(outputs) != len(truth.labels):
        raise DataError(
            f"{entry.name}: no results that fit the set {name!r}",
            expected=f"probabilities of {len(truth.labels)} images",
            found="none" if outputs is None else f"{len(outputs)} images",
            next_step="evaluate it again",
        )
    return correct(outputs, truth.labels)


def _cells(row: Mapping[str, Any], tested: bool) -> dict[str, str]:
    """Return header → cell of one row of `compare`; without a test set, of its cross-fitted answers."""
    speed = row["images_per_second"]
    log_loss = row["test_log_loss" if tested else "val_crossfitted_log_loss"]
    measured = {
        "cross-fitted": tables.format_percent(row["val_crossfitted"]),
        "test % [95%]": tables.format_interval(row, "test"),
    }
    if not tested:
        measured = {
            "cross-fitted % [95%]": tables.format_interval(row, "val_crossfitted"),
            "gain [95%]": tables.format_interval(row, "gain", "+.1f"),
        }
    return {
        "": row["name"],
        "validation %": tables.format_percent(row["val"]),
        **measured,
        "mean shift % [95%]": tables.format_interval(row, "shift"),
        "log-loss": tables.format_number(log_loss, ".3f"),
        "calibration": tables.format_percent(row["test_calibration_error"]),
        "images/s": tables.format_number(speed, ",.0f" if speed is None or speed >= 10 else ".1f"),
        "p": tables.format_p_value(row["p"]),
    }


def _is_tested(rows: Sequence[Mapping[str, Any]]) -> bool:
    return any(row["test"] is not None for row in rows)


def _notes(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    notes = ["[95%]: interval, resampling groups"]
    notes += [text for key, text in _LEGEND.items() if any(row[key] is not None for row in rows)]
    if len(rows) > 1 and _is_tested(rows):
        notes.append(f"p: exact McNemar test on the test images against {rows[0]['name']}")
    elif any(row["p"] is not None for row in rows):
        notes.append(f"gain, p: paired with {rows[0]['name']} on the cross-fitted answers; exact McNemar test")
    return notes + [f"{row['name']}: {row['note']}" for row in rows if row["note"]]


def _table(rows: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    tested = _is_tested(rows)
    return tables.without_empty_columns(tables.table_cells(_cells(row, tested) for row in rows))


def format_comparison(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the rows of `compare` as aligned text for a terminal with notes below; accuracies in per cent."""
    return tables.align_columns(_table(rows), _notes(rows)) if rows else "nothing to compare"


def markdown_comparison(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the rows of `compare` as a Markdown table with notes below; accuracies in per cent."""
    return tables.markdown_table(_table(rows), _notes(rows)) if rows else "nothing to compare"
