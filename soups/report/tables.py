"""Tables as aligned text and as Markdown, and the formats of their cells: numbers, percentages, intervals, p-values."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from soups.core.printable import escape_controls

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


def align_columns(cells: Sequence[Sequence[str]], notes: Sequence[str] = ()) -> str:
    """Return a header and rows as text, the first column left-aligned, the others right-aligned, with notes below."""
    cells = [[escape_controls(cell, one_line=True) for cell in row] for row in cells]
    first, *others = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = [
        "  ".join([row[0].ljust(first), *(cell.rjust(width) for cell, width in zip(row[1:], others, strict=True))])
        for row in cells
    ]
    lines.insert(1, "  ".join("─" * width for width in (first, *others)))
    return "\n".join([*(line.rstrip() for line in lines), *notes])


def markdown_table(cells: Sequence[Sequence[str]], notes: Sequence[str] = ()) -> str:
    """Return a header and rows as a Markdown table, aligned as in `align_columns`, with notes as a list below."""
    header, *body = [[escape_controls(cell, one_line=True).replace("|", r"\|") for cell in row] for row in cells]
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *body]
    below = ["", *(f"- {note}" for note in notes)] if notes else []
    return "\n".join([*(f"| {' | '.join(line)} |" for line in lines), *below])
