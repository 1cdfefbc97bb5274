"""Accuracies on one set with intervals, a row for each model or vote: the figure where no shift set is labelled."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from soups.report.figures import style

_SETS = {
    "test": "test accuracy, % [95%, resampling groups]",
    "val_crossfitted": "cross-fitted validation accuracy, % [95%, resampling groups]",
    "val": "validation accuracy, % (it flatters what was chosen on it)",
}


def draw_accuracies(rows: Sequence[Mapping[str, Any]], path: Path, title: str) -> None:
    """Draw rows of `comparison.compare` as PNG: test accuracy if it is known, else cross-fitted, else on validation.

    Args:
        rows: at least one, in order from top to bottom; those without a value are left out.
        path: the PNG file.
        title: above the figure.

    Raises:
        EnvironmentFailure: the file cannot be written.
    """
    key = next(name for name in _SETS if name == "val" or any(row.get(name) is not None for row in rows))
    shown = [row for row in rows if row.get(key) is not None]
    figure = style.new_figure(7.0, 1.6 + 0.32 * len(shown))
    axes = figure.add_subplot()
    for height, row in enumerate(shown):
        value, low, high = float(row[key]), row.get(f"{key}_low"), row.get(f"{key}_high")
        bars = None if low is None or high is None else [[100 * (value - low)], [100 * (high - value)]]
        colour = style.BLACK if height == 0 else style.BLUE
        axes.errorbar([100 * value], [height], xerr=bars, fmt="o", color=colour, capsize=3)
    axes.set_yticks(range(len(shown)), [style.escape_math(style.shorten(row["name"], 40)) for row in shown])
    axes.invert_yaxis()
    style.format_axes(axes, title, _SETS[key])
    axes.margins(y=0.1)
    style.save_png(figure, path)
