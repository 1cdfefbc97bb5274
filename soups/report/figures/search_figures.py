"""A search's figures as PNG: drawn by Optuna, then given room, whole ticks for whole numbers, and words that fit."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from soups.report.figures.style import DOTS_PER_INCH, plain, save, shortened

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure
    from optuna import Study
    from optuna.distributions import BaseDistribution

_LONGEST_CHOICE = 13
_BACKGROUND = "#EBEBEB"
"""Behind lines of which the worst are nearly white."""


def draw_picture(study: "Study", name: str, path: Path, function: str, options: Mapping[str, Any]) -> Path:
    """Draw one figure and write it.

    Args:
        study: with its trials.
        name: of the figure, a key of `_TIDIED`.
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
    # Optuna draws by pyplot and changes its style; both are put back.
    with matplotlib.rc_context({"figure.max_open_warning": 0, "figure.dpi": DOTS_PER_INCH}):
        pyplot.switch_backend("agg")
        axes = np.asarray(draw(study, **options))
        figure = axes.flat[0].figure
        _TIDIED[name](figure, axes, _Kinds.of(study))
        save(figure, path)
        pyplot.close(figure)
    return path


@dataclass(frozen=True)
class _Kinds:
    """Which hyperparameters are whole numbers and which are choices."""

    whole: frozenset[str]
    chosen: frozenset[str]

    @classmethod
    def of(cls, study: "Study") -> "_Kinds":
        from optuna.distributions import CategoricalDistribution, IntDistribution

        found: dict[str, BaseDistribution] = {}
        for trial in study.get_trials(deepcopy=False):
            found.update(trial.distributions)

        def names(kind: type) -> frozenset[str]:
            return frozenset(name for name, each in found.items() if isinstance(each, kind))

        return cls(names(IntDistribution), names(CategoricalDistribution))

    def mark(self, axis: "Axis", name: str) -> None:
        """Give the axis of a hyperparameter ticks that its values can have, and labels that do not touch."""
        from matplotlib.axis import XAxis
        from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, StrMethodFormatter

        below = isinstance(axis, XAxis)
        if axis.get_scale() == "log":
            low, high = axis.get_view_interval()
            axis.set_major_locator(LogLocator(subs=(1,) if high > (10 if below else 1000) * low else (1, 2, 5)))
            axis.set_major_formatter(StrMethodFormatter("{x:g}"))
            axis.set_minor_formatter(NullFormatter())
        elif name in self.whole:
            axis.set_major_locator(MaxNLocator("auto", integer=True))
        elif name in self.chosen:
            words = [label.get_text().strip("'") for label in axis.get_ticklabels()]
            texts = [plain(shortened(word, _LONGEST_CHOICE)) for word in words]
            axis.set_ticks(list(axis.get_majorticklocs()), texts)
        if below and (axis.get_scale() == "log" or name in self.chosen):
            _slant(axis)


def _slant(axis: "Axis") -> None:
    """Turn the labels below, which are long."""
    for label in axis.get_ticklabels():
        label.set(rotation=25, ha="right", rotation_mode="anchor")


def _tidy_history(figure: "Figure", axes: "np.ndarray[Any, Any]", kinds: _Kinds) -> None:
    from matplotlib.ticker import MaxNLocator

    figure.set_size_inches(9, 4.5)
    axes.flat[0].xaxis.set_major_locator(MaxNLocator("auto", integer=True))
    for line in axes.flat[0].lines:  # The best value does not improve before the trial that is better.
        line.set_drawstyle("steps-post")


def _tidy_importances(figure: "Figure", axes: "np.ndarray[Any, Any]", kinds: _Kinds) -> None:
    only = axes.flat[0]
    figure.set_size_inches(8, 1.5 + 0.4 * len(only.texts))
    for text in only.texts:
        text.set_text(f" {text.get_text()}")
    legend = only.get_legend()  # It has one word to say, and may lie on the bars.
    only.set_xlabel(f"importance for {legend.get_texts()[0].get_text()}")
    legend.remove()


def _tidy_parallel(figure: "Figure", axes: "np.ndarray[Any, Any]", kinds: _Kinds) -> None:
    main, bar, *others = figure.axes
    figure.set_size_inches(2 + 1.5 * len(others), 5.5)
    main.set_facecolor(_BACKGROUND)
    names = [label.get_text() for label in main.get_xticklabels()]
    for other, name in zip(others, names[1:], strict=True):
        kinds.mark(other.yaxis, name)
    _slant(main.xaxis)
    _put_beside(figure, bar, others)


def _put_beside(figure: "Figure", bar: "Axes", others: "Collection[Axes]") -> None:
    """Move a colour bar to the right of all that belongs to other axes; what is outside the figure is saved too."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    edges = [other.get_tightbbox(canvas.get_renderer()).x1 for other in others]  # type: ignore[union-attr]
    place, inch = bar.get_position(), figure.dpi / figure.bbox.width
    left = max([place.x0, *(edge / figure.bbox.width + 0.2 * inch for edge in edges)])
    bar.set_position((left, place.y0, 0.2 * inch, place.height))
    bar.set_box_aspect(None)


def _tidy_contour(figure: "Figure", axes: "np.ndarray[Any, Any]", kinds: _Kinds) -> None:
    grid = axes.reshape(-1, axes.shape[-1]) if axes.ndim else axes.reshape(1, 1)
    side = 2.7 * len(grid) + 2
    figure.set_size_inches(side * 1.2, side)
    for place, each in np.ndenumerate(grid):
        kinds.mark(each.xaxis, each.get_xlabel())
        kinds.mark(each.yaxis, each.get_ylabel())
        if len(grid) > 1 and place[0] == place[1]:  # Against itself: there only for the labels at the edge.
            each.grid(visible=False)
            each.set_facecolor("none")
            each.tick_params(which="both", length=0)
    if len(grid) > 1:
        for each in grid.flat:
            each.label_outer()
        figure.suptitle("Contour Plot", y=0.92)


def _tidy_slice(figure: "Figure", axes: "np.ndarray[Any, Any]", kinds: _Kinds) -> None:
    figure.set_size_inches(2 + 2.2 * axes.size, 4.5)
    for each in axes.flat:
        kinds.mark(each.xaxis, each.get_xlabel())
    if axes.size > 1:
        figure.suptitle("Slice Plot", y=0.97)


_TIDIED: dict[str, "Callable[[Figure, np.ndarray[Any, Any], _Kinds], None]"] = {
    "history": _tidy_history,
    "importances": _tidy_importances,
    "parallel_coordinates": _tidy_parallel,
    "contour": _tidy_contour,
    "slice": _tidy_slice,
}
