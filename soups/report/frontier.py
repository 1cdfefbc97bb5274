"""Comparison of networks: accuracy, costs, and the Pareto frontier of the two, as tables and as a figure."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from soups.core.errors import DataError
from soups.core.scores import calibration_error, correct, macro_f1, predictions
from soups.core.statistics import bootstrap_interval
from soups.report.comparison import SetTruth
from soups.report.figures.style import BLUE, GREY, VERMILION, escape_math, new_figure, save_png, shorten
from soups.report.per_class import class_scores, confusion_matrix
from soups.report.tables import (
    align_columns,
    format_interval,
    format_number,
    format_percent,
    markdown_table,
    table_cells,
)

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
    return sorted(rows, key=lambda row: (-row["accuracy"], _infinite_if_unknown(row[cost]), row["name"]))


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


def _infinite_if_unknown(cost: float | None) -> float:
    return float("inf") if cost is None else cost


def pareto_frontier(scores: Sequence[float], costs: Sequence[float | None]) -> list[bool]:
    """Return whether each entry is on the Pareto frontier.

    An entry is on it if no other is at least as good and at most as expensive, and better in one of the two. An entry
    with an unknown cost is not on it.
    """
    best, marks = -np.inf, [False] * len(scores)
    known = [index for index, cost in enumerate(costs) if cost is not None]
    for index in sorted(known, key=lambda index: (_infinite_if_unknown(costs[index]), -scores[index])):
        if scores[index] > best:
            # Entries that are equal in score and cost are all on it.
            best = scores[index]
            for other in known:
                marks[other] |= scores[other] == best and costs[other] == costs[index]
    return marks


def flatten_rows(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the rows of `network_rows` for a CSV, with a column `f1_<class>` for each class."""
    return [
        {key: value for key, value in row.items() if key != "f1"} | {f"f1_{name}": f1 for name, f1 in row["f1"].items()}
        for row in rows
    ]


# The table


def _format_scaled(row: Mapping[str, Any], key: str, unit: float, digits: int) -> str:
    value = row[key]
    return format_number(None if value is None else value / unit, f",.{digits}f")


def _format_class_f1(row: Mapping[str, Any], name: str) -> str:
    return format_percent(row["f1"][name])


def _format_worst_f1(row: Mapping[str, Any]) -> str:
    known = {name: value for name, value in row["f1"].items() if value is not None}
    worst = min(known, key=known.__getitem__)
    return f"{format_percent(known[worst])} ({shorten(worst, 16)})"


def _columns(classes: Sequence[str]) -> dict[str, Callable[[Mapping[str, Any]], str]]:
    columns: dict[str, Callable[[Mapping[str, Any]], str]] = {
        "": itemgetter("name"),
        "frontier": lambda row: MARK if row["frontier"] else "",
        "accuracy % [95%]": lambda row: format_interval(row, "accuracy"),
        "seeds %": lambda row: f"{format_percent(row['accuracy_worst'])}–{format_percent(row['accuracy_best'])}",
    }
    if len(classes) <= _CLASSES_SHOWN:
        columns |= {f"F1 {shorten(name, 16)} %": partial(_format_class_f1, name=name) for name in classes}
    else:
        columns |= {"macro-F1 %": lambda row: format_percent(row["macro_f1"]), "worst F1 %": _format_worst_f1}
    return columns | {
        "calibration": lambda row: format_percent(row["calibration_error"]),
        "parameters M": partial(_format_scaled, key="parameters", unit=1e6, digits=2),
        "trained M": partial(_format_scaled, key="trainable", unit=1e6, digits=2),
        "multiply-adds M": partial(_format_scaled, key="multiply_adds", unit=1e6, digits=1),
        "epochs": lambda row: str(row["epochs"]),
        "s/epoch": partial(_format_scaled, key="seconds_per_epoch", unit=1.0, digits=1),
        "images/s": partial(_format_scaled, key="images_per_second", unit=1.0, digits=0),
        "peak MiB": partial(_format_scaled, key="peak_memory", unit=2.0**20, digits=0),
    }


def _notes(cost: str) -> list[str]:
    return [
        f"{MARK} on the frontier: nothing is as accurate and has fewer {COSTS[cost][0]}"
        if cost in ("multiply_adds", "parameters")
        else f"{MARK} on the frontier: nothing is as accurate at less {COSTS[cost][0]}",
        "accuracy, F1 and calibration (expected calibration error, in %, no temperature fitted): means over the seeds;"
        " [95%] resamples groups of images, not seeds; seeds %: the worst and the best of them",
        "multiply-adds: for one image, half of what torch's FlopCounterMode counts; s/epoch and peak: training alone on"
        " this machine, in a process of its own (its whole memory on a CPU, its tensors on an accelerator); images/s:"
        " prediction, from pixels in memory",
    ]


def format_networks(rows: Sequence[Mapping[str, Any]], cost: str = "multiply_adds") -> str:
    """Return the rows of `network_rows` as aligned text for a terminal, with notes below."""
    return "\n".join([align_columns(table_cells(rows, _columns(list(rows[0]["f1"])))), *_notes(cost)])


def markdown_networks(rows: Sequence[Mapping[str, Any]], cost: str = "multiply_adds") -> str:
    """Return the rows of `network_rows` as a Markdown table, with notes below."""
    return markdown_table(table_cells(rows, _columns(list(rows[0]["f1"]))), _notes(cost))


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
    _draw_line([row for row in known if row["frontier"]], axes, cost)
    for row in known:
        _draw_point(row, axes, row[cost] / unit)
    axes.set_title(escape_math(title), fontsize=13)
    axes.set_xlabel(f"{words}, {sign}", fontsize=11)
    axes.set_ylabel(escape_math(f"{images}, %"), fontsize=11)
    axes.grid(True, color="#E5E5E5", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.margins(0.18, 0.12)
    save_png(figure, path)


def _draw_line(rows: Sequence[Mapping[str, Any]], axes: "Axes", cost: str) -> None:
    unit = COSTS[cost][1]
    ordered = sorted(rows, key=itemgetter(cost))
    places, heights = [row[cost] / unit for row in ordered], [100 * row["accuracy"] for row in ordered]
    axes.plot(places, heights, color=VERMILION, linewidth=1.4, drawstyle="steps-post", zorder=1, label="frontier")
    axes.legend(fontsize=9.5, loc="lower right", frameon=False)


def _draw_point(row: Mapping[str, Any], axes: "Axes", place: float) -> None:
    height, colour = 100 * row["accuracy"], VERMILION if row["frontier"] else BLUE
    reach = [[max(0.0, height - 100 * row["accuracy_low"])], [max(0.0, 100 * row["accuracy_high"] - height)]]
    axes.errorbar([place], [height], yerr=reach, color=GREY, linewidth=1.2, capsize=3, zorder=2)
    face = colour if row["frontier"] else "white"
    axes.plot([place], [height], marker="o", markersize=9, color=colour, markerfacecolor=face, zorder=3)
    axes.annotate(
        escape_math(shorten(row["name"], 32)), (place, height), (9, 6), textcoords="offset points", fontsize=10
    )
