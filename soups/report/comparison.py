"""Which is better and by how much: models and votes side by side, with intervals and an exact test."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from soups.errors import DataError
from soups.metrics import correct, log_loss
from soups.statistics import bootstrap_interval, bootstrap_mean_interval, mcnemar

NOTHING = "–"


@dataclass(frozen=True)
class Truth:
    """The truth about one set of images."""

    labels: np.ndarray
    """(N,) int64."""
    groups: np.ndarray | None = None
    """(N,) names of the writers, persons, scenes; None: each image is a group of its own."""


@dataclass(frozen=True)
class Contender:
    """One row of the comparison: a model or a vote."""

    name: str
    outputs: Mapping[str, np.ndarray]
    """Set name → (N, C) float64 probabilities, or vote shares."""
    shares: bool = False
    """The outputs are vote shares (hard voting): good for accuracy, no probabilities, so no log-loss."""
    note: str = ""
    """A sentence for below the table, such as a soup's summary."""


def compare(
    contenders: Sequence[Contender],
    sets: Mapping[str, Truth],
    *,
    val: str = "val",
    test: str = "test",
    shifts: Sequence[str] = (),
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
        level: of the intervals, which resample groups.
        repeats: resamples of each interval.
        seed: of the resampling; the same for all rows, so that they face the same draws.

    Returns:
        A dict per contender: `name`, `val`, `test`, `test_low`, `test_high`, `shift`, `shift_low`, `shift_high`
        (accuracies in [0, 1]), `test_log_loss` (nats), `p` (exact McNemar against the first row on the test images),
        `note`; None where there is nothing to say.

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
        row |= dict.fromkeys(("test", "test_low", "test_high", "shift", "shift_low", "shift_high"))
        row |= {"test_log_loss": None, "p": None, "note": contender.note}
        if test in own:
            row["test"] = float(own[test].mean())
            row["test_low"], row["test_high"] = bootstrap_interval(own[test], sets[test].groups, **options)
            if not contender.shares:
                row["test_log_loss"] = log_loss(contender.outputs[test], sets[test].labels)
            if own is not hits[0]:
                row["p"] = mcnemar(own[test], hits[0][test])
        if shifts:
            row["shift"] = float(np.mean([own[name].mean() for name in shifts]))
            drawn = [(own[name], sets[name].groups) for name in shifts]
            row["shift_low"], row["shift_high"] = bootstrap_mean_interval(drawn, **options)
        rows.append(row)
    return rows


def _hits(contender: Contender, name: str, truth: Truth) -> np.ndarray:
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


def _p_value(value: float | None) -> str:
    if value is None:
        return NOTHING
    if value < 0.0001:
        return "<0.0001"
    return f"{value:.2f}" if value >= 0.1 else f"{value:.3f}" if value >= 0.001 else f"{value:.4f}"


def _columns(level: float) -> dict[str, Callable[[Mapping[str, Any]], str]]:
    interval = f"[{100 * level:g}% interval]"
    return {
        "": lambda row: row["name"],
        "validation %": lambda row: _percent(row["val"]),
        f"test % {interval}": lambda row: _with_interval(row, "test"),
        f"mean shift % {interval}": lambda row: _with_interval(row, "shift"),
        "test log-loss": lambda row: NOTHING if row["test_log_loss"] is None else f"{row['test_log_loss']:.3f}",
        "McNemar p": lambda row: _p_value(row["p"]),
    }


def _cells(rows: Sequence[Mapping[str, Any]], level: float) -> list[list[str]]:
    columns = _columns(level)
    return [list(columns)] + [[cell(row) for cell in columns.values()] for row in rows]


def _notes(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    legend = [f"p: exact McNemar test on the test images against {rows[0]['name']}"] if len(rows) > 1 else []
    return legend + [f"{row['name']}: {row['note']}" for row in rows if row.get("note")]


def align(cells: Sequence[Sequence[str]]) -> str:
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
    return "\n".join([align(_cells(rows, level)), *_notes(rows)])


def markdown_table(rows: Sequence[Mapping[str, Any]], level: float = 0.95) -> str:
    """The rows of `compare` as a Markdown table, notes below; accuracies in per cent."""
    if not rows:
        return "nothing to compare"
    header, *body = [[cell.replace("|", r"\|") for cell in row] for row in _cells(rows, level)]
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *body]
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    notes = "".join(f"\n- {note}" for note in _notes(rows))
    return f"{table}\n{notes}" if notes else table
