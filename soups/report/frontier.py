"""Comparison of networks: accuracy, costs, and the Pareto frontier of the two, as tables and as a figure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from soups.core.errors import DataError
from soups.core.scores import calibration_error, correct, macro_f1, predictions
from soups.core.statistics import bootstrap_interval
from soups.report import tables
from soups.report.comparison import SetTruth
from soups.report.figures.style import BLUE, GREY, VERMILION, escape_math, format_axes, new_figure, save_png, shorten
from soups.report.per_class import class_scores, confusion_matrix

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COSTS = {
    "multiply_adds": ("multiply-adds of an image", 1e6, "M"),
    "parameters": ("parameters", 1e6, "M"),
    "seconds_per_epoch": ("time per epoch", 1.0, "s"),
    "peak_memory": ("peak memory of training", 2.0**20, "MiB"),
}
"""Costs to hold accuracy against: key of a row → name, divisor and unit."""
MARK = "◆"
"""Marks a row on the frontier."""
_CLASSES_SHOWN = 4
"""Maximum number of classes with a column each; of more, the table has the mean and the worst."""


@dataclass(frozen=True)
class NetworkResult:
    """One network, fine-tuned with several seeds."""

    name: str
    outputs: tuple[np.ndarray, ...]
    """For each seed, (N, C) float64 probabilities of the same N images."""
    costs: Mapping[str, Any]
    """`epochs`, `parameters`, `trainable`, `multiply_adds`, `seconds_per_epoch`, `images_per_second` and `peak_memory`
    (bytes); None if not known."""


def network_rows(
    entries: Sequence[NetworkResult], truth: SetTruth, classes: Sequence[str], cost: str = "multiply_adds"
) -> list[dict[str, Any]]:
    """Return scores and costs of networks, the most accurate first; of equally accurate ones, the cheapest first.

    Args:
        entries: one or more.
        truth: labels of the images that all of them were scored on.
        classes: C names, in the order of the probabilities.
        cost: key of `COSTS`, for the frontier.

    Returns:
        A dict per entry: `name`, `seeds`, `accuracy`, `accuracy_low`, `accuracy_high` (mean over the seeds, and its 95%
        interval, resampling groups), `accuracy_worst`, `accuracy_best` (of the seeds), `macro_f1`, `f1` (class → F1;
        None if a class neither occurs nor is predicted) and `calibration_error`, all means over the seeds, in [0, 1];
        the entry's costs; and `frontier`.

    Raises:
        DataError: the number of probabilities is not that of the labels.
    """
    rows = [_network_row(entry, truth, classes) for entry in entries]
    marks = pareto_frontier([row["accuracy"] for row in rows], [row[cost] for row in rows])
    rows = [row | {"frontier": mark} for row, mark in zip(rows, marks, strict=True)]
    return sorted(rows, key=lambda row: (-row["accuracy"], np.inf if row[cost] is None else row[cost], row["name"]))


def _network_row(entry: NetworkResult, truth: SetTruth, classes: Sequence[str]) -> dict[str, Any]:
    hits = np.stack([correct(output, truth.labels) for output in entry.outputs]).astype(np.float64)
    low, high = bootstrap_interval(hits.mean(axis=0), truth.groups)
    each = hits.mean(axis=1)
    scores = [
        class_scores(confusion_matrix(truth.labels, predictions(one), len(classes)), classes) for one in entry.outputs
    ]
    return {
        "name": entry.name,
        "seeds": len(entry.outputs),
        "accuracy": float(hits.mean()),
        "accuracy_low": low,
        "accuracy_high": high,
        "accuracy_worst": float(each.min()),
        "accuracy_best": float(each.max()),
        "macro_f1": float(np.mean([macro_f1(one, truth.labels) for one in entry.outputs])),
        "f1": {name: _mean_of_known([each[index]["f1"] for each in scores]) for index, name in enumerate(classes)},
        "calibration_error": float(np.mean([calibration_error(one, truth.labels) for one in entry.outputs])),
        **entry.costs,
    }


def _mean_of_known(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def pareto_frontier(scores: Sequence[float], costs: Sequence[float | None]) -> list[bool]:
    """Return whether each entry is on the Pareto frontier.

    An entry is on it if no other is at least as good and at most as expensive, and better in one of the two. An entry
    with an unknown cost is not on it.
    """
    known = [(score, cost) for score, cost in zip(scores, costs, strict=True) if cost is not None]
    return [
        cost is not None
        and not any(
            other_score >= score and other_cost <= cost and (other_score, other_cost) != (score, cost)
            for other_score, other_cost in known
        )
        for score, cost in zip(scores, costs, strict=True)
    ]


# The table


def _cells(row: Mapping[str, Any]) -> dict[str, str]:
    """Return header → cell of one row of `network_rows`."""

    def scaled(key: str, unit: float, digits: int) -> str:
        return tables.format_number(None if row[key] is None else row[key] / unit, f",.{digits}f")

    if len(row["f1"]) <= _CLASSES_SHOWN:
        scores = {f"F1 {shorten(name, 16)} %": tables.format_percent(f1) for name, f1 in row["f1"].items()}
    else:
        worst, name = min(((f1, name) for name, f1 in row["f1"].items() if f1 is not None), key=itemgetter(0))
        scores = {"macro-F1 %": tables.format_percent(row["macro_f1"])}
        scores |= {"worst F1 %": f"{tables.format_percent(worst)} ({shorten(name, 16)})"}
    return {
        "": row["name"],
        "frontier": MARK if row["frontier"] else "",
        "accuracy % [95%]": tables.format_interval(row, "accuracy"),
        "seeds %": f"{tables.format_percent(row['accuracy_worst'])}–{tables.format_percent(row['accuracy_best'])}",
        **scores,
        "calibration": tables.format_percent(row["calibration_error"]),
        "parameters M": scaled("parameters", 1e6, 2),
        "trained M": scaled("trainable", 1e6, 2),
        "multiply-adds M": scaled("multiply_adds", 1e6, 1),
        "epochs": str(row["epochs"]),
        "s/epoch": scaled("seconds_per_epoch", 1.0, 1),
        "images/s": scaled("images_per_second", 1.0, 0),
        "peak MiB": scaled("peak_memory", 2.0**20, 0),
    }


def _notes(cost: str) -> list[str]:
    less = "and has fewer" if cost in ("multiply_adds", "parameters") else "at less"
    return [
        f"{MARK} on the frontier: nothing is as accurate {less} {COSTS[cost][0]}",
        "accuracy, F1 and calibration (expected calibration error, in %, no temperature fitted): means over the seeds;"
        " [95%] resamples groups of images, not seeds; seeds %: the worst and the best of them",
        "multiply-adds: for one image, half of what torch's FlopCounterMode counts; s/epoch and peak: training alone on"
        " this machine, in a process of its own (its whole memory on a CPU, its tensors on an accelerator); images/s:"
        " prediction, from pixels in memory",
    ]


def format_networks(rows: Sequence[Mapping[str, Any]], cost: str = "multiply_adds") -> str:
    """Return the rows of `network_rows` as aligned text for a terminal, with notes below."""
    return tables.align_columns(tables.table_cells(map(_cells, rows)), _notes(cost))


def markdown_networks(rows: Sequence[Mapping[str, Any]], cost: str = "multiply_adds") -> str:
    """Return the rows of `network_rows` as a Markdown table, with notes below."""
    return tables.markdown_table(tables.table_cells(map(_cells, rows)), _notes(cost))


# The figure


def draw_frontier(
    rows: Sequence[Mapping[str, Any]], path: Path, *, title: str, images: str, cost: str = "multiply_adds"
) -> None:
    """Draw accuracy with intervals against cost as PNG; the frontier is a step line through its filled points.

    Args:
        rows: of `network_rows`.
        path: the PNG file.
        title: above the figure.
        images: label of the accuracy axis, such as `accuracy on 560 test images`.
        cost: key of `COSTS`; on a logarithmic axis.

    Raises:
        DataError: no row has this cost.
        EnvironmentFailure: the file cannot be written.
    """
    words, unit, sign = COSTS[cost]
    known = [row for row in rows if row[cost] is not None]
    if not known:
        raise DataError(f"nothing to draw: {words} of no network is known")
    from matplotlib.ticker import LogFormatter

    figure = new_figure(7.6, 5.0)
    axes = figure.add_subplot()
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(LogFormatter())  # Ticks read 20 instead of 2 × 10¹.
    axes.xaxis.set_minor_formatter(LogFormatter())
    best = sorted((row for row in known if row["frontier"]), key=itemgetter(cost))
    line: dict[str, Any] = {"color": VERMILION, "linewidth": 1.4, "drawstyle": "steps-post", "zorder": 1}
    axes.plot([row[cost] / unit for row in best], [100 * row["accuracy"] for row in best], label="frontier", **line)
    axes.legend(fontsize=9.5, loc="lower right", frameon=False)
    for row in known:
        _draw_point(row, axes, row[cost] / unit)
    format_axes(axes, title, f"{words}, {sign}", f"{images}, %")
    axes.margins(0.18, 0.12)
    save_png(figure, path)


def _draw_point(row: Mapping[str, Any], axes: "Axes", place: float) -> None:
    height, colour = 100 * row["accuracy"], VERMILION if row["frontier"] else BLUE
    reach = [[max(0.0, height - 100 * row["accuracy_low"])], [max(0.0, 100 * row["accuracy_high"] - height)]]
    axes.errorbar([place], [height], yerr=reach, color=GREY, linewidth=1.2, capsize=3, zorder=2)
    face = colour if row["frontier"] else "white"
    axes.plot([place], [height], marker="o", markersize=9, color=colour, markerfacecolor=face, zorder=3)
    axes.annotate(
        escape_math(shorten(row["name"], 32)), (place, height), (9, 6), textcoords="offset points", fontsize=10
    )
