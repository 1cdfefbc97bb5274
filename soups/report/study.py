"""Gains of soups and votes over the best single model, pooled over the splits of a study."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from operator import itemgetter
from typing import Any

from soups.core.errors import DataError
from soups.core.statistics import paired_gain
from soups.report.tables import (
    align_columns,
    format_interval,
    format_number,
    format_p_value,
    markdown_table,
    table_cells,
)

MEASURES = ("test", "shift", "test_log_loss")
"""Keys of a comparison's rows that are pooled."""
_SHOWN = (
    ("test", "test", " %", 100.0, ".1f"),
    ("shift", "shift", " %", 100.0, ".1f"),
    ("test_log_loss", "log-loss", "", 1.0, ".3f"),
)
"""Key, title, unit, factor and format of each measure in the table."""


def pool_splits(splits: Sequence[Sequence[Mapping[str, Any]]]) -> list[dict[str, Any]]:
    """Return mean results and paired gains of every entry that all splits have.

    Args:
        splits: for each split the rows of `comparison.compare`, the first of them the best single model; rows of
            different splits are matched by `name`.

    Returns:
        A dict per entry, in the order of the first split: `name`, `splits`, and for each of `MEASURES` its mean over
        the splits (`test`), and the gain over the first row of the same split with its 95% t interval over splits:
        `test_gain`, `test_gain_low`, `test_gain_high`, `test_p` (paired t-test). A log-loss is better if the gain is
        below zero. None for values that are not known.

    Raises:
        DataError: no splits, or one without rows.
    """
    if not splits or not all(splits):
        raise DataError("nothing to pool", expected="at least one split with results")
    named = [{row["name"]: row for row in rows} for rows in splits]
    in_all = [name for name in named[0] if all(name in rows for rows in named)]
    return [_pool_row(name, [rows[name] for rows in named], [rows[0] for rows in splits]) for name in in_all]


def _pool_row(name: str, own: Sequence[Mapping[str, Any]], best: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    row: dict[str, Any] = {"name": name, "splits": len(own)}
    for key in MEASURES:
        row |= dict.fromkeys((key, f"{key}_gain", f"{key}_gain_low", f"{key}_gain_high", f"{key}_p"))
        values = [one[key] for one in own]
        if any(value is None for value in values):
            continue
        row[key] = sum(values) / len(values)
        if own[0] is not best[0]:
            gain = paired_gain([value - one[key] for value, one in zip(values, best, strict=True)])
            row |= {f"{key}_gain": gain.mean, f"{key}_gain_low": gain.low, f"{key}_gain_high": gain.high}
            row[f"{key}_p"] = gain.p
    return row


def _format_mean(row: Mapping[str, Any], key: str, spec: str, factor: float) -> str:
    return format_number(row[key], spec, factor)


def _format_p(row: Mapping[str, Any], key: str) -> str:
    return format_p_value(row[f"{key}_p"])


def _columns() -> dict[str, Callable[[Mapping[str, Any]], str]]:
    columns: dict[str, Callable[[Mapping[str, Any]], str]] = {"": itemgetter("name")}
    for key, title, unit, factor, spec in _SHOWN:
        columns |= {
            f"{title}{unit}": partial(_format_mean, key=key, spec=spec, factor=factor),
            f"{title} gain [95%]": partial(format_interval, key=f"{key}_gain", spec=f"+{spec}", factor=factor),
            f"{title} p": partial(_format_p, key=key),
        }
    return columns


def _notes(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    number = rows[0]["splits"]
    return [
        f"mean of {number} splits; gain: over the best single model of the same split, with 95% t interval over splits"
        " (accuracies in points; a log-loss gains downwards)",
        f"p: two-sided paired t-test over n = {number} splits, for each row by itself. All splits have the same test"
        " images and their training images overlap, so p is too small, and it is no evidence for other test sets",
    ]


def format_study(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the rows of `pool_splits` as aligned text for a terminal with notes below; accuracies in per cent."""
    return "\n".join([align_columns(table_cells(rows, _columns())), *_notes(rows)])


def markdown_study(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the rows of `pool_splits` as a Markdown table with notes below; accuracies in per cent."""
    return markdown_table(table_cells(rows, _columns()), _notes(rows))
