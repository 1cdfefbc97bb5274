"""Gains of soups and votes over the best single model, pooled over the splits of a study."""

from collections.abc import Mapping, Sequence
from typing import Any

from soups.core.errors import DataError
from soups.core.statistics import paired_gain
from soups.report import tables

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
        if None in values:
            continue
        row[key] = sum(values) / len(values)
        if own[0] is not best[0]:
            gain = paired_gain([value - one[key] for value, one in zip(values, best, strict=True)])
            row |= {f"{key}_gain": gain.mean, f"{key}_gain_low": gain.low, f"{key}_gain_high": gain.high}
            row[f"{key}_p"] = gain.p
    return row


def _cells(row: Mapping[str, Any]) -> dict[str, str]:
    """Return header → cell of one row of `pool_splits`."""
    cells = {"": row["name"]}
    for key, title, unit, factor, spec in _SHOWN:
        cells[f"{title}{unit}"] = tables.format_number(row[key], spec, factor)
        cells[f"{title} gain [95%]"] = tables.format_interval(row, f"{key}_gain", f"+{spec}", factor)
        cells[f"{title} p"] = tables.format_p_value(row[f"{key}_p"])
    return cells


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
    return tables.align_columns(tables.table_cells(map(_cells, rows)), _notes(rows))


def markdown_study(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the rows of `pool_splits` as a Markdown table with notes below; accuracies in per cent."""
    return tables.markdown_table(tables.table_cells(map(_cells, rows)), _notes(rows))
