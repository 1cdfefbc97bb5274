"""Which is better and by how much: models and votes side by side, with intervals and an exact test."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from soups.core.errors import DataError
from soups.core.scores import calibration_error, correct, log_loss
from soups.core.statistics import bootstrap_interval, bootstrap_mean_interval, mcnemar
from soups.ensembles.temperature import fit_temperature, scale_by_temperature, to_log_probabilities

NOTHING = "–"


@dataclass(frozen=True)
class SetTruth:
    """The truth about one set of images."""

    labels: np.ndarray
    """(N,) int64."""
    groups: np.ndarray | None = None
    """(N,) names of the writers, persons, scenes; None: each image is a group of its own."""


@dataclass(frozen=True)
class ComparisonRow:
    """One row of the comparison: a model or a vote."""

    name: str
    outputs: Mapping[str, np.ndarray]
    """Set name → (N, C) float64 probabilities, or vote shares."""
    shares: bool = False
    """The outputs are vote shares (hard voting): good for accuracy, no probabilities, so no log-loss."""
    note: str = ""
    """A sentence for below the table, such as a soup's summary."""
    models: int = 1
    """How many models it takes to predict."""
    crossfitted: float | None = None
    """Validation accuracy in [0, 1] on images that did not choose it, where that was measured."""


def compare(
    contenders: Sequence[ComparisonRow],
    sets: Mapping[str, SetTruth],
    *,
    val: str = "val",
    test: str = "test",
    shifts: Sequence[str] = (),
    speed: float | None = None,
    level: float = 0.95,
    repeats: int = 2000,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """Score contenders on the same images.

    Args:
        contenders: in the order of the rows; the first is the one that the others are tested against.
        sets: the truth by set name; a set that is not there leaves its columns empty.
        val: set of the validation column.
        test: set of the test columns and of McNemar's test.
        shifts: sets whose accuracies are averaged, each counting alike.
        speed: images a second through one model; a vote of M models has a share of 1/M of it.
        level: of the intervals, which resample groups.
        repeats: resamples of each interval.
        seed: of the resampling; the same for all rows, so that they face the same draws.

    Returns:
        A dict per contender: `name`, `val`, `val_crossfitted`, `test`, `test_low`, `test_high`, `shift`, `shift_low`,
        `shift_high` (accuracies in [0, 1]), `test_log_loss` (nats), `temperature` (fitted on validation),
        `test_calibration_error` (in [0, 1], after that), `images_per_second`, `models`, `p` (exact McNemar against the
        first row on the test images), `note`; None where there is nothing to say.

    Raises:
        DataError: a contender lacks a set or has another number of images than its truth; names both.
    """
    shifts = [name for name in shifts if name in sets]
    wanted = [name for name in (val, test, *shifts) if name in sets]
    hits = [{name: _hits(contender, name, sets[name]) for name in wanted} for contender in contenders]
    options: dict[str, Any] = {"level": level, "repeats": repeats, "seed": seed}
    rows = []
    for contender, own in zip(contenders, hits, strict=True):
        row: dict[str, Any] = {"name": contender.name, "val": float(own[val].mean()) if val in own else None}
        row |= {"val_crossfitted": contender.crossfitted}
        row |= dict.fromkeys(("test", "test_low", "test_high", "shift", "shift_low", "shift_high"))
        row |= dict.fromkeys(("test_log_loss", "temperature", "test_calibration_error"))
        row |= {"images_per_second": None if speed is None else speed / contender.models, "models": contender.models}
        row |= {"p": None, "note": contender.note}
        if test in own:
            row["test"] = float(own[test].mean())
            row["test_low"], row["test_high"] = bootstrap_interval(own[test], sets[test].groups, **options)
            row |= _of_probabilities(contender, sets, val, test)
            if own is not hits[0]:
                row["p"] = mcnemar(own[test], hits[0][test])
        if shifts:
            row["shift"] = float(np.mean([own[name].mean() for name in shifts]))
            drawn = [(own[name], sets[name].groups) for name in shifts]
            row["shift_low"], row["shift_high"] = bootstrap_mean_interval(drawn, **options)
        rows.append(row)
    return rows


def _of_probabilities(contender: ComparisonRow, sets: Mapping[str, SetTruth], val: str, test: str) -> dict[str, float]:
    """What vote shares cannot be asked: log-loss, and calibration once the validation set has set the temperature."""
    if contender.shares:
        return {}
    outputs, labels = contender.outputs, sets[test].labels
    found = {"test_log_loss": log_loss(outputs[test], labels)}
    if val in sets:
        found["temperature"] = fit_temperature(to_log_probabilities(outputs[val]), sets[val].labels)
        found["test_calibration_error"] = calibration_error(
            scale_by_temperature(outputs[test], found["temperature"]), labels
        )
    return found


def _hits(contender: ComparisonRow, name: str, truth: SetTruth) -> np.ndarray:
    outputs = contender.outputs.get(name)
    if outputs is None or len(outputs) != len(truth.labels):
        raise DataError(
            f"{contender.name}: no results that fit the set {name!r}",
            expected=f"probabilities of {len(truth.labels)} images",
            found="none" if outputs is None else f"{len(outputs)} images",
            next_step="evaluate it again",
        )
    return correct(outputs, truth.labels)


def _percent(value: float | None) -> str:
    return NOTHING if value is None else f"{100 * value:.1f}"


def _with_interval(row: Mapping[str, Any], key: str) -> str:
    if row[key] is None:
        return NOTHING
    return f"{_percent(row[key])} [{_percent(row[f'{key}_low'])}, {_percent(row[f'{key}_high'])}]"


def format_p_value(value: float | None) -> str:
    """A p-value with as many digits as are worth reading."""
    if value is None:
        return NOTHING
    if value < 0.0001:
        return "<0.0001"
    return f"{value:.2f}" if value >= 0.1 else f"{value:.3f}" if value >= 0.001 else f"{value:.4f}"


def _speed(value: float | None) -> str:
    return NOTHING if value is None else f"{value:,.0f}" if value >= 10 else f"{value:.1f}"


def _columns(level: float) -> dict[str, Callable[[Mapping[str, Any]], str]]:
    interval = f"[{100 * level:g}%]"
    return {
        "": lambda row: row["name"],
        "validation %": lambda row: _percent(row["val"]),
        "cross-fitted": lambda row: _percent(row["val_crossfitted"]),
        f"test % {interval}": lambda row: _with_interval(row, "test"),
        f"mean shift % {interval}": lambda row: _with_interval(row, "shift"),
        "log-loss": lambda row: NOTHING if row["test_log_loss"] is None else f"{row['test_log_loss']:.3f}",
        "calibration": lambda row: _percent(row["test_calibration_error"]),
        "images/s": lambda row: _speed(row["images_per_second"]),
        "p": lambda row: format_p_value(row["p"]),
    }


def _cells(rows: Sequence[Mapping[str, Any]], level: float) -> list[list[str]]:
    columns = _columns(level)
    return [list(columns)] + [[cell(row) for cell in columns.values()] for row in rows]


def _notes(rows: Sequence[Mapping[str, Any]], level: float) -> list[str]:
    legend = [f"[{100 * level:g}%]: interval, resampling groups"]
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


def align_columns(cells: Sequence[Sequence[str]]) -> str:
    """Aligned text of a header and rows: the first column to the left, the others to the right."""
    widths = [max(len(row[index]) for row in cells) for index in range(len(cells[0]))]
    lines = [
        "  ".join(
            [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        )
        for row in cells
    ]
    lines.insert(1, "  ".join("─" * width for width in widths))
    return "\n".join(line.rstrip() for line in lines)


def format_table(rows: Sequence[Mapping[str, Any]], level: float = 0.95) -> str:
    """The rows of `compare` as aligned text for a terminal, notes below; accuracies in per cent."""
    if not rows:
        return "nothing to compare"
    return "\n".join([align_columns(_cells(rows, level)), *_notes(rows, level)])


def markdown_table(rows: Sequence[Mapping[str, Any]], level: float = 0.95) -> str:
    """The rows of `compare` as a Markdown table, notes below; accuracies in per cent."""
    if not rows:
        return "nothing to compare"
    return markdown_columns(_cells(rows, level), _notes(rows, level))


def markdown_columns(cells: Sequence[Sequence[str]], notes: Sequence[str]) -> str:
    """A Markdown table of a header and rows, the first column to the left, the others to the right, notes below."""
    header, *body = [[cell.replace("|", r"\|") for cell in row] for row in cells]
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *body]
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    below = "".join(f"\n- {note}" for note in notes)
    return f"{table}\n{below}" if below else table
