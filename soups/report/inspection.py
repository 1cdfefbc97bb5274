"""Whether a pool can be souped, as aligned text: a row a model, reasons below, and one sentence to end with."""

from collections.abc import Mapping, Sequence
from typing import Any

from soups.report.comparison import NOTHING, align_columns

NUMBERS = ("val", "distance", "angle", "midpoint", "drop", "drop_low", "drop_high")
"""Columns of a row: accuracy on validation in [0, 1]; distance from the start; angle to the mean of the others' task
vectors in degrees; accuracy at the midpoint between it and the best model; what is lost there, in [-1, 1], and its 95%
interval. None where it was not measured."""


def format_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """The inspected models as aligned text for a terminal.

    Args:
        rows: `name`, the `NUMBERS`, `why` (reasons why it cannot be souped with the others) and `notes`.
    """
    cells = [["model", "validation %", "distance", "angle °", "midpoint %", "drop, points [95%]", "belongs"]]
    for row in rows:
        drop = NOTHING if row["drop"] is None else f"{100 * row['drop']:+.1f}"
        if row["drop"] is not None:
            drop += f" [{100 * row['drop_low']:+.1f}, {100 * row['drop_high']:+.1f}]"
        numbers = [_number(row["distance"], ".3g"), _number(row["angle"], ".0f"), _percent(row["midpoint"])]
        cells.append([row["name"], _percent(row["val"]), *numbers, drop, "no" if row["why"] else "yes"])
    below = [f"{row['name']}: {text}" for row in rows for text in (*row["why"], *row["notes"])]
    return "\n".join([align_columns(cells), *below, format_verdict(rows)])


def format_verdict(rows: Sequence[Mapping[str, Any]]) -> str:
    """The sentence that says how many can be souped, and who is to be left out."""
    odd = [row["name"] for row in rows if row["why"]]
    good = len(rows) - len(odd)
    if not odd:
        return f"all {good} can be souped" if good > 1 else "there is only one model: nothing to soup"
    if len(rows) == 1:
        return "the only model cannot be souped"
    if good < 2:
        return f"none of the {len(rows)} can be souped with another"
    return f"{good} of {len(rows)} can be souped; leave out {', '.join(odd)}"


def _percent(value: float | None) -> str:
    return NOTHING if value is None else f"{100 * value:.1f}"


def _number(value: float | None, form: str) -> str:
    return NOTHING if value is None else format(value, form)
