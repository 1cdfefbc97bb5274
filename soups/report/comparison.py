"""Comparison of models and votes on the same images: scores with intervals, and an exact test against the first."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from soups.core.errors import DataError
from soups.core.scores import calibration_error, correct, log_loss
from soups.core.statistics import bootstrap_interval, bootstrap_mean_interval, mcnemar
from soups.ensembles.temperature import fit_temperature, scale_by_temperature, to_log_probabilities
from soups.report.tables import (
    Columns,
    align_columns,
    format_interval,
    format_number,
    format_p_value,
    format_percent,
    markdown_table,
    table_cells,
)


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
        row: dict[str, Any] = {"name": entry.name, "val": float(own["val"].mean()) if "val" in own else None}
        row |= {"val_crossfitted": entry.crossfitted}
        row |= dict.fromkeys(("test", "test_low", "test_high", "shift", "shift_low", "shift_high"))
        row |= dict.fromkeys(("test_log_loss", "temperature", "test_calibration_error"))
        row |= {"images_per_second": None if speed is None else speed / entry.models, "models": entry.models}
        row |= {"p": None, "note": entry.note}
        if "test" in own:
            row["test"] = float(own["test"].mean())
            groups = sets["test"].groups
            row["test_low"], row["test_high"] = bootstrap_interval(own["test"], groups, repeats=repeats, seed=seed)
            row |= _probability_scores(entry, sets)
            if own is not hits[0]:
                row["p"] = mcnemar(own["test"], hits[0]["test"])
        if shifts:
            row["shift"] = float(np.mean([own[name].mean() for name in shifts]))
            shifted = [(own[name], sets[name].groups) for name in shifts]
            row["shift_low"], row["shift_high"] = bootstrap_mean_interval(shifted, repeats=repeats, seed=seed)
        rows.append(row)
    return rows


def _probability_scores(entry: ComparisonRow, sets: Mapping[str, SetTruth]) -> dict[str, float]:
    """Return test log-loss, and calibration at the temperature fitted on validation; nothing for vote shares."""
    if entry.shares:
        return {}
    outputs, labels = entry.outputs, sets["test"].labels
    scores = {"test_log_loss": log_loss(outputs["test"], labels)}
    if "val" in sets:
        scores["temperature"] = fit_temperature(to_log_probabilities(outputs["val"]), sets["val"].labels)
        scores["test_calibration_error"] = calibration_error(
            scale_by_temperature(outputs["test"], scores["temperature"]), labels
        )
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


def _format_speed(value: float | None) -> str:
    return format_number(value, ",.0f" if value is None or value >= 10 else ".1f")


_COLUMNS: Columns = {
    "": lambda row: row["name"],
    "validation %": lambda row: format_percent(row["val"]),
    "cross-fitted": lambda row: format_percent(row["val_crossfitted"]),
    "test % [95%]": lambda row: format_interval(row, "test"),
    "mean shift % [95%]": lambda row: format_interval(row, "shift"),
    "log-loss": lambda row: format_number(row["test_log_loss"], ".3f"),
    "calibration": lambda row: format_percent(row["test_calibration_error"]),
    "images/s": lambda row: _format_speed(row["images_per_second"]),
    "p": lambda row: format_p_value(row["p"]),
}


def _notes(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    legend = ["[95%]: interval, resampling groups"]
    if any(row["val_crossfitted"] is not None for row in rows):
        legend += [
            "validation flatters what was chosen on it; cross-fitted %: chosen on one half of the validation images,"
            " scored on the other, both ways"
        ]
    if any(row["test_log_loss"] is not None for row in rows):
        legend += [
            "log-loss: on the test images, in nats; calibration: expected calibration error there, in %, at the"
            " temperature fitted on validation"
        ]
    if any(row["images_per_second"] is not None for row in rows):
        legend += ["images/s: one model measured on this machine, from pixels in memory; a vote of M models: that / M"]
    if len(rows) > 1:
        legend += [f"p: exact McNemar test on the test images against {rows[0]['name']}"]
    return legend + [f"{row['name']}: {row['note']}" for row in rows if row.get("note")]


def format_comparison(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the rows of `compare` as aligned text for a terminal with notes below; accuracies in per cent."""
    if not rows:
        return "nothing to compare"
    return "\n".join([align_columns(table_cells(rows, _COLUMNS)), *_notes(rows)])


def markdown_comparison(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the rows of `compare` as a Markdown table with notes below; accuracies in per cent."""
    if not rows:
        return "nothing to compare"
    return markdown_table(table_cells(rows, _COLUMNS), _notes(rows))
