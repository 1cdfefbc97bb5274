"""WiSE-FT's figure: validation score against alpha, from the start to the mean of the fine-tunes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from soups.core.metrics import METRICS
from soups.report.figures.style import BLACK, BLUE, ORANGE, VERMILION, format_axes, legend_below, new_figure, save_png

_PREFIX = "alpha="


@dataclass(frozen=True)
class AlphaCurve:
    """Points of a sweep of alpha, from a recipe's log."""

    alphas: tuple[float, ...]
    """Rising, in [0, 1]: the coefficient of the fine-tunes."""
    scores: tuple[float, ...]
    """By the metric, as it is reported: a log-loss is positive."""
    chosen: float
    """The alpha that the recipe selected."""
    images: int
    """Number of validation images."""


def curve_from_decisions(decisions: Sequence[Mapping[str, Any]], metric: str) -> AlphaCurve | None:
    """Return the curve of the last sweep in a log of `wise_ft`; None if no sweep tried two values.

    Args:
        decisions: lines of the log, oldest first; see `recipes.shared.decisions.DecisionLog.add`.
        metric: a key of `METRICS`.
    """
    last = decisions[-1].get("request") if decisions else None
    sign = 1 if METRICS[metric].higher_is_better else -1
    lines = {
        float(str(line["candidate"]).removeprefix(_PREFIX)): line
        for line in decisions
        if line.get("request") == last
        and str(line["candidate"]).startswith(_PREFIX)
        and line["complete"]
        and line["score"] is not None
    }
    accepted = [alpha for alpha, line in lines.items() if line["accepted"]]
    if len(lines) < 2 or not accepted:
        return None
    alphas = tuple(sorted(lines))
    images = int(lines[accepted[-1]]["images"])
    return AlphaCurve(alphas, tuple(sign * lines[alpha]["score"] for alpha in alphas), accepted[-1], images)


def draw_alpha_curve(curve: AlphaCurve, path: Path, *, metric: str, title: str) -> None:
    """Draw a curve as PNG, after figure 1 of Wortsman et al. 2022 (arXiv:2109.01903); here on one set, over alpha.

    Args:
        curve: at least two points.
        path: the PNG file.
        metric: a key of `METRICS`.
        title: above the figure.

    Raises:
        EnvironmentFailure: the file cannot be written.
    """
    percent = METRICS[metric].higher_is_better
    scores = [100 * score if percent else score for score in curve.scores]
    places = dict(zip(curve.alphas, scores, strict=True))
    figure = new_figure(7, 4.6)
    axes = figure.subplots()
    axes.plot(curve.alphas, scores, color=BLUE, marker="o", markersize=6, linewidth=1.8, zorder=2)
    solid: dict[str, Any] = {"linestyle": "", "markersize": 10, "markeredgecolor": "white", "zorder": 3}
    ends = ((0.0, "start, not fine-tuned", BLACK, "P"), (1.0, "uniform soup", ORANGE, "s"))
    for alpha, label, colour, marker in ends:
        if alpha in places:
            axes.plot([alpha], [places[alpha]], color=colour, marker=marker, label=label, **solid)
    # A ring, so that it does not hide a marker at one of the ends.
    ring: dict[str, Any] = {"marker": "o", "markersize": 17, "markerfacecolor": "none", "markeredgecolor": VERMILION}
    label = f"chosen: alpha {curve.chosen:g}"
    axes.plot([curve.chosen], [places[curve.chosen]], linestyle="", markeredgewidth=2, label=label, zorder=4, **ring)
    y_label = f"{metric.replace('_', ' ')} on {curve.images} validation images{', %' if percent else ''}"
    format_axes(axes, title, "alpha, the share of the fine-tunes", y_label)
    axes.margins(0.06, 0.1)
    legend_below(axes)
    save_png(figure, path)
