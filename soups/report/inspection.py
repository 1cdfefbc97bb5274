"""Whether a pool can be souped, as aligned text: a row a model, reasons below, and one sentence to end with."""

from collections.abc import Mapping, Sequence
from typing import Any

from soups.report.comparison import NOTHING, align

NUMBERS = ("val", "distance", "angle", "midpoint", "drop", "drop_low", "drop_high")
"""Columns of a row: score on validation by the run's metric, higher is better; distance from the start; angle to the
mean of the others' task vectors in degrees; accuracy at the midpoint between it and the best model, what is lost there,
and the latter's 95% interval, in [-1, 1]. None where it was not measured."""
_NAMED = 6


def format_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """The inspected models as aligned text for a terminal.

    Args:
        rows: `name`, the `NUMBERS`, `why` (reasons why it cannot be souped with the others) and `notes`.
    """
    cells = [["model", "validation", "distance", "angle °", "midpoint %", "drop, points [95%]", "belongs"]]
    for row in rows:
        drop = NOTHING if row["drop"] is None else f"{100 * row['drop']:+.1f}"
        if row["drop"] is not None:
            drop += f" [{100 * row['drop_low']:+.1f}, {100 * row['drop_high']:+.1f}]"
        numbers = [_number(row["val"], ".4f"), _number(row["distance"], ".3g"), _number(row["angle"], ".0f")]
        midpoint = _number(None if row["midpoint"] is None else 100 * row["midpoint"], ".1f")
        cells.append([row["name"], *numbers, midpoint, drop, "no" if row["why"] else "yes"])
    below = [f"{row['name']}: {text}" for row in rows for text in (*row["why"], *row["notes"])]
    return "\n".join([align(cells), *below, verdict(rows)])


def verdict(rows: Sequence[Mapping[str, Any]]) -> str:
    """The sentence that says how many can be souped, and who is to be left out."""
    odd = [row["name"] for row in rows if row["why"]]
    good = len(rows) - len(odd)
    if not odd:
        return f"all {good} can be souped" if good > 1 else "there is only one model: nothing to soup"
    if good < 2:
        return f"none of the {len(rows)} can be souped with another"
    return f"{good} of {len(rows)} can be souped; leave out {', '.join(odd)}"


def _number(value: float | None, form: str) -> str:
    return NOTHING if value is None else format(value, form)
