"""What soups and votes gain over the best single model, pooled over the splits of a study."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from operator import itemgetter
from typing import Any

from soups.core.errors import DataError
from soups.core.statistics import paired_gain
from soups.report.comparison import NOTHING, align_columns, format_p_value, markdown_columns

MEASURES = ("test", "shift", "test_log_loss")
"""Keys of a comparison's rows that are pooled."""
_SHOWN = (
    ("test", "test", " %", 100.0, 1),
    ("shift", "shift", " %", 100.0, 1),
    ("test_log_loss", "log-loss", "", 1.0, 3),
)
"""Key, title, unit, factor and digits of each in the table."""


def pool_splits(splits: Sequence[Sequence[Mapping[str, Any]]], level: float = 0.95) -> list[dict[str, Any]]:
    """Mean results and paired gains of every contender that is in all splits.

    Args:
        splits: for each split the rows of `comparison.compare`, the first of them the best single model; rows of
            different splits belong together by `name`.
        level: of the t intervals over splits.

    Returns:
        A dict per contender, in the order of the first split: `name`, `splits`, and for each of `MEASURES` its mean
        (`test`) over the splits, and the gain over the first row of the same split: `test_gain`, `test_gain_low`,
        `test_gain_high`, `test_p` (paired t-test). A log-loss is better where the gain is below zero. None where there
        is nothing to say.

    Raises:
        DataError: no splits, or one without rows.
    """
    if not splits or not all(splits):
        raise DataError("nothing to pool", expected="at least one split with results")
    named = [{row["name"]: row for row in rows} for rows in splits]
    everywhere = [name for name in named[0] if all(name in rows for rows in named)]
    return [
        _pooled_row(name, [rows[name] for rows in named], [rows[0] for rows in splits], level) for name in everywhere
    ]


def _pooled_row(
    name: str, own: Sequence[Mapping[str, Any]], best: Sequence[Mapping[str, Any]], level: float
) -> dict[str, Any]:
    row: dict[str, Any] = {"name": name, "splits": len(own)}
    for key in MEASURES:
        row |= dict.fromkeys((key, f"{key}_gain", f"{key}_gain_low", f"{key}_gain_high", f"{key}_p"))
        values = [one[key] for one in own]
        if any(value is None for value in values):
            continue
        row[key] = sum(values) / len(values)
        if own[0] is not best[0]:
            gain = paired_gain([value - one[key] for value, one in zip(values, best, strict=True)], level)
            row |= {f"{key}_gain": gain.mean, f"{key}_gain_low": gain.low, f"{key}_gain_high": gain.high}
            row[f"{key}_p"] = gain.p
    return row


def _number(value: float | None, factor: float, digits: int, sign: str = "") -> str:
    return NOTHING if value is None else f"{factor * value:{sign}.{digits}f}"


def _mean(row: Mapping[str, Any], key: str, factor: float, digits: int) -> str:
    return _number(row[key], factor, digits)


def _p(row: Mapping[str, Any], key: str) -> str:
    return format_p_value(row[f"{key}_p"])


def _gain(row: Mapping[str, Any], key: str, factor: float, digits: int) -> str:
    parts = [_number(row[f"{key}_gain{end}"], factor, digits, "+") for end in ("", "_low", "_high")]
    return parts[0] if parts[1] == NOTHING else f"{parts[0]} [{parts[1]}, {parts[2]}]"


def _columns(level: float) -> dict[str, Callable[[Mapping[str, Any]], str]]:
    interval = f"[{100 * level:g}%]"
    columns: dict[str, Callable[[Mapping[str, Any]], str]] = {"": itemgetter("name")}
    for key, title, unit, factor, digits in _SHOWN:
        columns |= {
            f"{title}{unit}": partial(_mean, key=key, factor=factor, digits=digits),
            f"{title} gain {interval}": partial(_gain, key=key, factor=factor, digits=digits),
            f"{title} p": partial(_p, key=key),
        }
    return columns


def _cells(rows: Sequence[Mapping[str, Any]], level: float) -> list[list[str]]:
    columns = _columns(level)
    return [list(columns)] + [[cell(row) for cell in columns.values()] for row in rows]


def _notes(rows: Sequence[Mapping[str, Any]], level: float) -> list[str]:
    number = rows[0]["splits"]
    return [
        f"mean of {number} splits; gain: over the best single model of the same split, with {100 * level:g}% t interval"
        " over splits (accuracies in points; a log-loss gains downwards)",
        f"p: two-sided paired t-test over n = {number} splits, for each row by itself. The test images are the same in"
        " all splits and the training images overlap, so it is too sure of itself and tells nothing of other test sets",
    ]


def format_study(rows: Sequence[Mapping[str, Any]], level: float = 0.95) -> str:
    """The rows of `pool_splits` as aligned text for a terminal, notes below; accuracies in per cent."""
    return "\n".join([align_columns(_cells(rows, level)), *_notes(rows, level)])


def markdown_study(rows: Sequence[Mapping[str, Any]], level: float = 0.95) -> str:
    """The rows of `pool_splits` as a Markdown table, notes below; accuracies in per cent."""
    return markdown_columns(_cells(rows, level), _notes(rows, level))
