"""Tables as aligned text and as Markdown, and the formats of their cells: numbers, percentages, intervals, p-values."""

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from soups.core.printable import TABLE_WIDTH, escape_controls

MISSING = "–"
"""Cell of a value that is not known."""


def format_number(value: float | None, spec: str, factor: float = 1.0) -> str:
    """Format `factor * value` by a format specification such as `+.1f`; None becomes `–`."""
    return MISSING if value is None else format(factor * value, spec)


def format_percent(value: float | None) -> str:
    """Format a share in [0, 1] as a percentage with one decimal, without the sign `%`."""
    return format_number(value, ".1f", 100)


def format_interval(row: Mapping[str, Any], key: str, spec: str = ".1f", factor: float = 100) -> str:
    """Format a value with its interval: `94.1 [92.0, 95.5]`.

    Args:
        row: holds the value under `key` and the bounds under `<key>_low` and `<key>_high`.
        key: of the value.
        spec: format specification of all three numbers.
        factor: of all three numbers; 100 for a percentage.

    Returns:
        The cell, without the interval if its bounds are None; `–` if the value is None.
    """
    value, low, high = (format_number(row[f"{key}{end}"], spec, factor) for end in ("", "_low", "_high"))
    return value if MISSING in (value, low) else f"{value} [{low}, {high}]"


def format_p_value(value: float | None) -> str:
    """Format a p-value with two significant digits at most; None becomes `–`."""
    if value is None:
        return MISSING
    if value < 0.0001:
        return "<0.0001"
    return f"{value:.2f}" if value >= 0.1 else f"{value:.3f}" if value >= 0.001 else f"{value:.4f}"


def table_cells(rows: Iterable[Mapping[str, str]]) -> list[list[str]]:
    """Return the header and the rows of a table, from at least one row that maps headers to cells."""
    first, *others = rows
    return [list(first), *(list(row.values()) for row in (first, *others))]


def without_empty_columns(cells: Sequence[Sequence[str]]) -> list[list[str]]:
    """Return a header and rows without the columns, except the first, in which no row has a value."""
    kept = [any(row[column] != MISSING for row in cells[1:]) for column in range(len(cells[0]))]
    return [[cell for column, cell in enumerate(row) if column == 0 or kept[column]] for row in cells]


def align_columns(cells: Sequence[Sequence[str]], notes: Sequence[str] = ()) -> str:
    """Return a header and rows as text, the first column left-aligned, the others right-aligned, with notes below.

    A table wider than `TABLE_WIDTH` is folded: columns that do not fit follow in further tables, which repeat the first
    column. Notes are folded between words.
    """
    cells = [[escape_controls(cell, one_line=True) for cell in row] for row in cells]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    tables = [_align([[row[column] for column in columns] for row in cells]) for columns in _fold_columns(widths)]
    limit = TABLE_WIDTH.get()
    return "\n".join(["\n\n".join(tables), *(note if limit is None else textwrap.fill(note, limit) for note in notes)])


def _align(cells: Sequence[Sequence[str]]) -> str:
    first, *others = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = [
        "  ".join([row[0].ljust(first), *(cell.rjust(width) for cell, width in zip(row[1:], others, strict=True))])
        for row in cells
    ]
    lines.insert(1, "  ".join("─" * width for width in (first, *others)))
    return "\n".join(line.rstrip() for line in lines)


def _fold_columns(widths: Sequence[int]) -> list[list[int]]:
    """Return the columns of each part of a table that fits into `TABLE_WIDTH`; each part begins with column 0."""
    limit, parts = TABLE_WIDTH.get(), [[0]]
    for column in range(1, len(widths)):
        taken = sum(widths[each] + 2 for each in parts[-1]) + widths[column]
        if limit is not None and taken > limit and len(parts[-1]) > 1:
            parts.append([0])
        parts[-1].append(column)
    return parts


def markdown_table(cells: Sequence[Sequence[str]], notes: Sequence[str] = ()) -> str:
    """Return a header and rows as a Markdown table, aligned as in `align_columns`, with notes as a list below."""
    header, *body = [[escape_controls(cell, one_line=True).replace("|", r"\|") for cell in row] for row in cells]
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *body]
    below = ["", *(f"- {note}" for note in notes)] if notes else []
    return "\n".join([*(f"| {' | '.join(line)} |" for line in lines), *below])
