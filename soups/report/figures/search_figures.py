"""Figures of a search as PNG, drawn by Optuna and adjusted: size, integer ticks, labels that fit."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from soups.report.figures.style import DOTS_PER_INCH, escape_math, save_png, shorten

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure
    from optuna import Study
    from optuna.distributions import BaseDistribution

_MAX_CHOICE = 13
_BACKGROUND = "#EBEBEB"
"""Grey, because the lines of the worst trials are nearly white."""


def draw_search_figure(study: "Study", name: str, path: Path, function: str, options: Mapping[str, Any]) -> Path:
    """Draw one figure and write it as PNG.

    Args:
        study: with its trials.
        name: of the figure, a key of `_ADJUSTMENTS`.
        path: of the PNG.
        function: of `optuna.visualization.matplotlib`.
        options: of that function.

    Raises:
        EnvironmentFailure: the file cannot be written.
    """
    import matplotlib
    from matplotlib import pyplot
    from optuna.visualization import matplotlib as drawn

    draw: Callable[..., Any] = getattr(drawn, function)
    # Optuna draws by pyplot and changes its style; both are restored.
    with matplotlib.rc_context({"figure.max_open_warning": 0, "figure.dpi": DOTS_PER_INCH}):
        pyplot.switch_backend("agg")
        axes = np.asarray(draw(study, **options))
        figure = axes.flat[0].figure
        _ADJUSTMENTS[name](figure, axes, _ParameterKinds.of(study))
        save_png(figure, path)
        pyplot.close(figure)
    return path


@dataclass(frozen=True)
class _ParameterKinds:
    """Names of the integer and of the categorical hyperparameters."""

    integers: frozenset[str]
    choices: frozenset[str]

    @classmethod
    def of(cls, study: "Study") -> "_ParameterKinds":
        from optuna.distributions import CategoricalDistribution, IntDistribution

        found: dict[str, BaseDistribution] = {}
        for trial in study.get_trials(deepcopy=False):
            found.update(trial.distributions)

        def names(kind: type) -> frozenset[str]:
            return frozenset(name for name, each in found.items() if isinstance(each, kind))

        return cls(names(IntDistribution), names(CategoricalDistribution))

    def format_axis(self, axis: "Axis", name: str) -> None:
        """Set ticks of a hyperparameter's axis to possible values, with labels that do not touch."""
        from matplotlib.axis import XAxis
        from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, StrMethodFormatter

        below = isinstance(axis, XAxis)
        if axis.get_scale() == "log":
            low, high = axis.get_view_interval()
            axis.set_major_locator(LogLocator(subs=(1,) if high > (10 if below else 1000) * low else (1, 2, 5)))
            axis.set_major_formatter(StrMethodFormatter("{x:g}"))
            axis.set_minor_formatter(NullFormatter())
        elif name in self.integers:
            axis.set_major_locator(MaxNLocator("auto", integer=True))
        elif name in self.choices:
            words = [label.get_text().strip("'") for label in axis.get_ticklabels()]
            texts = [escape_math(shorten(word, _MAX_CHOICE)) for word in words]
            axis.set_ticks(list(axis.get_majorticklocs()), texts)
        if below and (axis.get_scale() == "log" or name in self.choices):
            _slant_labels(axis)


def _slant_labels(axis: "Axis") -> None:
    """Rotate the axis's labels, which are long."""
    for label in axis.get_ticklabels():
        label.set(rotation=25, ha="right", rotation_mode="anchor")


def _adjust_history(figure: "Figure", axes: "np.ndarray[Any, Any]", kinds: _ParameterKinds) -> None:
    from matplotlib.ticker import MaxNLocator

    figure.set_size_inches(9, 4.5)
    axes.flat[0].xaxis.set_major_locator(MaxNLocator("auto", integer=True))
    for line in axes.flat[0].lines:  # The best value changes at a trial, not between trials.
        line.set_drawstyle("steps-post")


def _adjust_importances(figure: "Figure", axes: "np.ndarray[Any, Any]", kinds: _ParameterKinds) -> None:
    only = axes.flat[0]
    figure.set_size_inches(8, 1.5 + 0.4 * len(only.texts))
    for text in only.texts:
        text.set_text(f" {text.get_text()}")
    legend = only.get_legend()  # It has a single entry, and may cover the bars.
    only.set_xlabel(f"importance for {legend.get_texts()[0].get_text()}")
    legend.remove()


def _adjust_parallel(figure: "Figure", axes: "np.ndarray[Any, Any]", kinds: _ParameterKinds) -> None:
    main, bar, *others = figure.axes
    figure.set_size_inches(2 + 1.5 * len(others), 5.5)
    main.set_facecolor(_BACKGROUND)
    names = [label.get_text() for label in main.get_xticklabels()]
    for other, name in zip(others, names[1:], strict=True):
        kinds.format_axis(other.yaxis, name)
    _slant_labels(main.xaxis)
    _move_colour_bar(figure, bar, others)


def _move_colour_bar(figure: "Figure", bar: "Axes", others: "Collection[Axes]") -> None:
    """Move a colour bar to the right of everything that belongs to other axes.

    The saved image includes what lies outside the figure.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    edges = [other.get_tightbbox(canvas.get_renderer()).x1 for other in others]  # type: ignore[union-attr]
    place, inch = bar.get_position(), figure.dpi / figure.bbox.width
    left = max([place.x0, *(edge / figure.bbox.width + 0.2 * inch for edge in edges)])
    bar.set_position((left, place.y0, 0.2 * inch, place.height))
    bar.set_box_aspect(None)


def _adjust_contour(figure: "Figure", axes: "np.ndarray[Any, Any]", kinds: _ParameterKinds) -> None:
    grid = axes.reshape(-1, axes.shape[-1]) if axes.ndim else axes.reshape(1, 1)
    side = 2.7 * len(grid) + 2
    figure.set_size_inches(side * 1.2, side)
    for place, each in np.ndenumerate(grid):
        kinds.format_axis(each.xaxis, each.get_xlabel())
        kinds.format_axis(each.yaxis, each.get_ylabel())
        if (
            len(grid) > 1 and place[0] == place[1]
        ):  # A parameter against itself: only its labels at the edge are needed.
            each.grid(visible=False)
            each.set_facecolor("none")
            each.tick_params(which="both", length=0)
    if len(grid) > 1:
        for each in grid.flat:
            each.label_outer()
        figure.suptitle("Contour Plot", y=0.92)


def _adjust_slice(figure: "Figure", axes: "np.ndarray[Any, Any]", kinds: _ParameterKinds) -> None:
    figure.set_size_inches(2 + 2.2 * axes.size, 4.5)
    for each in axes.flat:
        kinds.format_axis(each.xaxis, each.get_xlabel())
    if axes.size > 1:
        figure.suptitle("Slice Plot", y=0.97)


_ADJUSTMENTS: dict[str, "Callable[[Figure, np.ndarray[Any, Any], _ParameterKinds], None]"] = {
    "history": _adjust_history,
    "importances": _adjust_importances,
    "parallel_coordinates": _adjust_parallel,
    "contour": _adjust_contour,
    "slice": _adjust_slice,
}
