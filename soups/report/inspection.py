"""Report of `main.py --inspect` as aligned text: a row for each model, reasons below, and a verdict on the pool."""

from collections.abc import Mapping, Sequence
from typing import Any

from soups.report.tables import align_columns, format_interval, format_number, format_percent

NUMBER_COLUMNS = ("val", "distance", "angle", "midpoint", "drop", "drop_low", "drop_high")
"""Numbers of a row, None if not measured.

Validation accuracy in [0, 1]; distance from the start; angle to the mean of the others' task vectors in degrees;
accuracy at the midpoint between the model and the best model; loss of accuracy there, in [-1, 1], with its 95%
interval."""


def format_inspection(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the inspected models as aligned text for a terminal.

    Args:
        rows: `name`, the `NUMBER_COLUMNS`, `why` (reasons why it cannot be averaged with the others) and `notes`.
    """
    cells = [["model", "validation %", "distance", "angle °", "midpoint %", "drop, points [95%]", "belongs"]]
    for row in rows:
        distance, angle = format_number(row["distance"], ".3g"), format_number(row["angle"], ".0f")
        numbers = [format_percent(row["val"]), distance, angle, format_percent(row["midpoint"])]
        drop = format_interval(row, "drop", "+.1f")
        cells.append([row["name"], *numbers, drop, "no" if row["why"] else "yes"])
    notes = [f"{row['name']}: {text}" for row in rows for text in (*row["why"], *row["notes"])]
    return align_columns(cells, [*notes, format_verdict(rows)])


def format_verdict(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return a sentence with the number of models that can be averaged, and the names of the others."""
    odd = [row["name"] for row in rows if row["why"]]
    good = len(rows) - len(odd)
    if not odd:
        return f"all {good} can be souped" if good > 1 else "there is only one model: nothing to soup"
    if len(rows) == 1:
        return "the only model cannot be souped"
    if good < 2:
        return f"none of the {len(rows)} can be souped with another"
    return f"{good} of {len(rows)} can be souped; leave out {', '.join(odd)}"
