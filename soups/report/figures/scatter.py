"""The paper's figure: test accuracy against mean accuracy over shifts, with a point for each model."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from soups.core.errors import DataError
from soups.report.figures import style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Record = Mapping[str, Any]
"""A line of a result file: the model's name, and an accuracy by set."""
Kind = Literal["individual", "start", "uniform", "greedy", "learned", "ensemble", "soup"]

ORIGINAL_VAL, ORIGINAL_TEST = "ImageNet2p", "ImageNet"
ORIGINAL_SHIFTS = ("ImageNetV2", "ImageNetR", "ImageNetSketch", "ObjectNet", "ImageNetA")
"""Names of the sets in the result files of the original model-soups code."""

_STYLES: dict[Kind, tuple[str, str, str, float]] = {
    # kind: label in the legend, colour, marker, size in points
    "individual": ("fine-tunes", style.BLUE, "o", 6),
    "start": ("start, not fine-tuned", style.BLACK, "P", 10),
    "uniform": ("uniform soup", style.ORANGE, "s", 10),
    "greedy": ("greedy soup", style.VERMILION, "*", 16),
    "ensemble": ("ensemble", style.GREEN, "D", 9),
    "learned": ("learned soup", style.PURPLE, "^", 11),
    "soup": ("other soups", style.SKY, "v", 9),
}


@dataclass(frozen=True)
class Point:
    """One model in the figure."""

    name: str
    kind: Kind
    test: float
    """Accuracy in [0, 1]."""
    shift: float
    """Mean accuracy over the shift sets, in [0, 1]."""


def shift_names(records: Sequence[Record], val: str = "val", test: str = "test") -> tuple[str, ...]:
    """Return the sets besides validation and test that have accuracies in the records, in order of first mention."""
    scores = [(key, value) for record in records for key, value in record.items() if key not in (val, test)]
    return tuple(dict.fromkeys(key for key, value in scores if isinstance(value, float) and 0 <= value <= 1))


def points_from_records(
    records: Sequence[Record], *, test: str = "test", shifts: Sequence[str], kinds: Mapping[str, Kind] | None = None
) -> list[Point]:
    """Return the points of records `{"model_name": …, "<test>": accuracy, "<shift>": accuracy, …}`.

    Of several records with one name the last counts. Records without the test set or one of the shifts are left out.

    Args:
        records: lines of `individual_results.jsonl` and `soup_results.jsonl`, or of the original's result files.
        test: name of the test set (`ImageNet` in the original's files).
        shifts: names of the shift sets (`ORIGINAL_SHIFTS`).
        kinds: model name → kind, if the name does not show it (the original's `model_0` is the start).

    Raises:
        DataError: no shift set is named, or no record has all the sets.
    """
    if not shifts:
        raise DataError("the figure needs at least one shift set", expected="sets under shifts/ in the data folder")
    kinds = kinds or {}
    latest = {str(record.get("model_name")): record for record in records}
    points = []
    for name, record in latest.items():
        values: list[Any] = [record.get(key) for key in (test, *shifts)]
        if all(isinstance(value, int | float) and math.isfinite(value) for value in values):
            kind = kinds.get(name) or guess_kind(name)
            points.append(Point(name, kind, float(values[0]), sum(values[1:]) / len(shifts)))
    if not points:
        known = sorted({key for record in records for key, value in record.items() if isinstance(value, float)})
        raise DataError(
            f"no model has results on {', '.join((test, *shifts))}",
            expected="lines with an accuracy for each of these sets",
            found=f"accuracies on {', '.join(known)}" if known else "no accuracies",
            next_step="evaluate the models, or name the sets with --test-set",
        )
    return points


def guess_kind(name: str) -> Kind:
    """Return the kind of a model from its file name: `…_start`, `…uniform_soup`, `…greedy_soup`, `soft_voting`, ….

    Any other name is an individual model.
    """
    stem = name.lower().removesuffix(".safetensors").removesuffix(".pt").replace("-", "_").replace(" ", "_")
    if stem == "start" or stem.endswith("_start"):
        return "start"
    if stem.endswith("soup"):
        named: tuple[Kind, ...] = ("uniform", "greedy", "learned")
        return next((kind for kind in named if f"_{stem}".endswith(f"_{kind}_soup")), "soup")
    votes = ("ensemble", "soft_vote", "soft_voting", "hard_vote", "hard_voting", "weighted_ensemble")
    return "ensemble" if stem.endswith(votes) else "individual"


def draw_scatter(points: Sequence[Point], path: Path, *, title: str, shifts: Sequence[str]) -> None:
    """Draw figure 1 of Wortsman et al. 2022 (arXiv:2203.05482) as PNG.

    A start that is far from all other models is not drawn; the legend shows its accuracies.

    Args:
        points: at least one.
        path: the PNG file.
        title: above the figure.
        shifts: names of the shift sets, for the axis label if they are short enough.

    Raises:
        EnvironmentFailure: the file cannot be written.
    """
    figure = style.new_figure(7.0, 5.6)
    axes = figure.add_subplot()
    outside = _find_far_starts(points)
    for kind in _STYLES:
        own = [point for point in points if point.kind == kind and point not in outside]
        if own:
            number = f" ({len(own)})" if kind == "individual" or len(own) > 1 else ""
            _plot_points(axes, kind, own, _STYLES[kind][0] + number)
    for point in outside:
        _plot_points(axes, "start", [], f"start (outside: {100 * point.test:.1f}, {100 * point.shift:.1f})")
    number = f"over {len(shifts)} shift sets" if len(shifts) > 1 else "over the shift sets"
    names = f"\n({', '.join(shifts)})" if 0 < len(", ".join(shifts)) <= 60 else ""
    style.format_axes(axes, title, "test accuracy, %", f"mean accuracy {number}, %{names}")
    axes.margins(0.1)
    style.legend_below(axes)
    style.save_png(figure, path)


def _plot_points(axes: "Axes", kind: Kind, points: Sequence[Point], label: str) -> None:
    _, colour, marker, size = _STYLES[kind]
    marks: dict[str, Any] = {"color": colour, "marker": marker, "markersize": size, "markeredgewidth": 0.8}
    if kind == "individual":
        marks |= {"alpha": 0.75, "zorder": 3}  # On top, because a soup of one model must not hide that model.
    tests, shifts = [100 * point.test for point in points], [100 * point.shift for point in points]
    axes.plot(tests, shifts, linestyle="", label=label, markeredgecolor="white", **marks)


def _find_far_starts(points: Sequence[Point]) -> list[Point]:
    """Return starts so far from the other models that drawing them would squeeze all others into a corner."""
    others = np.array([(point.test, point.shift) for point in points if point.kind != "start"])
    if len(others) < 2:
        return []
    low, high = others.min(axis=0), others.max(axis=0)
    reach = 1.5 * np.maximum(high - low, 0.005)

    def is_far(point: Point) -> bool:
        place = np.array((point.test, point.shift))
        return bool(((place < low - reach) | (place > high + reach)).any())

    return [point for point in points if point.kind == "start" and is_far(point)]
