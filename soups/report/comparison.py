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
    *("name", "val", "val_crossfitted", "test", "test_low", "test_high", "shift", "shift_low", "shift_high"),
    *("test_log_loss", "temperature", "test_calibration_error", "images_per_second", "models", "p", "note"),
)
"""Keys of a row, in the order of the columns of `comparison.csv`."""
_LEGEND = {
    "val_crossfitted": "validation flatters what was chosen on it; cross-fitted %: chosen on one half of the validation"
    " images, scored on the other, both ways",
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
    crossfitted: float | None = None
    """Validation accuracy in [0, 1] on images that were not used to choose it; None: not measured."""


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
        sets: labels by set name; `val` gives the validation column, `test` the test columns and McNemar's test. The
            columns of a missing set stay empty.
        shifts: sets whose accuracies are averaged with equal weights.
        speed: images per second through one model; a vote of M models reaches 1/M of it.
        repeats: resamples of each 95% interval, which resamples groups.
        seed: of the resampling; the same for all rows, so that they face the same resamples.

    Returns:
        A dict per entry: `name`, `val`, `val_crossfitted`, `test`, `test_low`, `test_high`, `shift`, `shift_low`,
        `shift_high` (accuracies in [0, 1]), `test_log_loss` (nats), `temperature` (fitted on validation),
        `test_calibration_error` (in [0, 1], at that temperature), `images_per_second`, `models`, `p` (exact McNemar
        test against the first row on the test images), `note`; None for values that are not known.

    Raises:
        DataError: an entry lacks a set or has another number of images than its labels; names both.
    """
    shifts = [name for name in shifts if name in sets]
    scored = [name for name in ("val", "test", *shifts) if name in sets]
    hits = [{name: _correct_predictions(entry, name, sets[name]) for name in scored} for entry in entries]
    rows = []
    for entry, own in zip(entries, hits, strict=True):
        row: dict[str, Any] = dict.fromkeys(_KEYS)
        row |= {"name": entry.name, "val_crossfitted": entry.crossfitted, "models": entry.models, "note": entry.note}
        if speed is not None:
            row["images_per_second"] = speed / entry.models
        if "val" in own:
            row["val"] = float(own["val"].mean())
        if "test" in own:
            row["test"] = float(own["test"].mean())
            groups = sets["test"].groups
            row["test_low"], row["test_high"] = bootstrap_interval(own["test"], groups, repeats=repeats, seed=seed)
            row |= {} if entry.shares else _probability_scores(entry.outputs, sets)
            if own is not hits[0]:
                row["p"] = mcnemar(own["test"], hits[0]["test"])
        if shifts:
            row["shift"] = float(np.mean([own[name].mean() for name in shifts]))
            shifted = [(own[name], sets[name].groups) for name in shifts]
            row["shift_low"], row["shift_high"] = bootstrap_mean_interval(shifted, repeats=repeats, seed=seed)
        rows.append(row)
    return rows


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


def _cells(row: Mapping[str, Any]) -> dict[str, str]:
    """Return header → cell of one row of `compare`."""
    speed = row["images_per_second"]
    return {
        "": row["name"],
        "validation %": tables.format_percent(row["val"]),
        "cross-fitted": tables.format_percent(row["val_crossfitted"]),
        "test % [95%]": tables.format_interval(row, "test"),
        "mean shift % [95%]": tables.format_interval(row, "shift"),
        "log-loss": tables.format_number(row["test_log_loss"], ".3f"),
        "calibration": tables.format_percent(row["test_calibration_error"]),
        "images/s": tables.format_number(speed, ",.0f" if speed is None or speed >= 10 else ".1f"),
        "p": tables.format_p_value(row["p"]),
    }


def _notes(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    notes = ["[95%]: interval, resampling groups"]
    notes += [text for key, text in _LEGEND.items() if any(row[key] is not None for row in rows)]
    if len(rows) > 1:
        notes.append(f"p: exact McNemar test on the test images against {rows[0]['name']}")
    return notes + [f"{row['name']}: {row['note']}" for row in rows if row["note"]]


def format_comparison(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the rows of `compare` as aligned text for a terminal with notes below; accuracies in per cent."""
    return tables.align_columns(tables.table_cells(map(_cells, rows)), _notes(rows)) if rows else "nothing to compare"


def markdown_comparison(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the rows of `compare` as a Markdown table with notes below; accuracies in per cent."""
    return tables.markdown_table(tables.table_cells(map(_cells, rows)), _notes(rows)) if rows else "nothing to compare"
