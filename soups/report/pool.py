"""Tables of fine-tunes: hyperparameters and validation scores, as text for a terminal and as columns of a CSV."""

from collections.abc import Mapping, Sequence
from typing import Any

from soups.core.metrics import METRICS
from soups.report.tables import align_columns, format_number, format_percent

HYPERPARAMETERS = ("lr", "wd", "epochs", "augmentation", "mix", "smoothing")
"""Hyperparameters that each fine-tune may have its own value of."""
_LONGEST_TEXT = 22
"""Characters of an augmentation in a table for a terminal."""
_ROWS = 40
"""Fine-tunes in a table for a terminal; the middle of a longer one is left out."""

Cells = list[list[str]]


def hyperparameters_of(training: Mapping[str, Any]) -> dict[str, Any]:
    """Return the `HYPERPARAMETERS` of a fine-tune's settings; RandAugment is a part of the augmentation."""
    values = {name: training.get(name) for name in HYPERPARAMETERS}
    return values | {"augmentation": " ".join(filter(None, (values["augmentation"], training.get("aug"))))}


def hyperparameter_cells(values: Mapping[str, Any]) -> list[str]:
    """Return the cells of `hyperparameters_of`; an augmentation read from a file is shortened."""
    return [_cell(values[name]) for name in HYPERPARAMETERS]


def _cell(value: Any) -> str:
    if isinstance(value, str):
        return value if len(value) <= _LONGEST_TEXT else f"{value[: _LONGEST_TEXT - 1]}…"
    return format_number(value, ".3g")


def fold_rows(cells: Cells, most: int) -> Cells:
    """Return at most `most` rows of a table: the first and last ones, and one with the number of those between."""
    if len(cells) <= most:
        return cells
    tail = (most - 1) // 3
    head = most - 1 - tail
    between = [f"… {len(cells) - head - tail} more", *[""] * (len(cells[0]) - 1)]
    return [*cells[:head], between, *cells[-tail:]]


def pool_row(name: str, training: Mapping[str, Any], scores: Mapping[str, float], metric: str) -> dict[str, Any]:
    """Return a fine-tune's row of `pool.csv`: its name, hyperparameters and validation score."""
    return {"model": name, **hyperparameters_of(training), f"val_{metric}": scores.get(metric)}


def format_pool(rows: Sequence[Mapping[str, Any]], metric: str) -> str:
    """Return the rows of `pool_row` as aligned text, and a line that names the best model.

    Args:
        rows: at least one.
        metric: of the validation scores; accuracy and other shares are in per cent.
    """
    key = f"val_{metric}"
    cells = [[row["model"], *hyperparameter_cells(row), _format_score(row[key], metric)] for row in rows]
    header = ["model", *HYPERPARAMETERS, f"val {_unit(metric)}"]
    scored = [row for row in rows if row[key] is not None]
    notes = []
    if len(scored) > 1:
        sign = 1 if METRICS[metric].higher_is_better else -1
        best = max(scored, key=lambda row: sign * row[key])
        notes = [f"best on validation: {best['model']}"]
    return align_columns([header, *fold_rows(cells, _ROWS)], notes)


def _unit(metric: str) -> str:
    return "%" if metric == "accuracy" else metric.replace("_", " ")


def _format_score(score: float | None, metric: str) -> str:
    return format_percent(score) if metric == "accuracy" else format_number(score, ".4f")
