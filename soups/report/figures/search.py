"""Figures of a hyperparameter search, drawn by Optuna: as PNG, and interactively as one HTML page without external
resources. Optuna's PNGs are adjusted: size, ticks at possible values, labels that do not overlap."""

import importlib.util
import logging
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from soups.files.atomic import write_text
from soups.report.figures.style import DOTS_PER_INCH, escape_math, save_png, shorten
from soups.report.templates import render_template

if TYPE_CHECKING:
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure
    from optuna import Study
    from optuna.distributions import BaseDistribution
    from optuna.trial import FrozenTrial

    Distributions = Mapping[str, BaseDistribution]

logger = logging.getLogger(__name__)

_SEED = 0
FIGURES = {
    "history": "plot_optimization_history",
    "importances": "plot_param_importances",
    "parallel_coordinates": "plot_parallel_coordinate",
    "contour": "plot_contour",
    "slice": "plot_slice",
}
"""Name → name of the function in Optuna's plotly and matplotlib visualization modules."""
_MAX_IN_CONTOUR = 4
"""Number of hyperparameters in the grid of contours: the most important ones, because a grid of all is too small."""
_CONTOUR_ROW_HEIGHT = 220
"""Height of a row of contours in the page, in pixels."""
_PLOTLY_CONFIG = {"responsive": True, "displaylogo": False, "showSendToCloud": False}
"""Removes the button that would upload the data to plotly."""
_MAX_CHOICE = 13
"""Maximum number of characters of a categorical value."""
_BACKGROUND = "#EBEBEB"
"""Grey, because the lines of the worst trials are nearly white."""


def draw_search_figures(study: "Study", folder: Path, title: str) -> list[Path]:
    """Draw each figure as PNG, and all of them interactively in `search.html`.

    Args:
        study: with its trials.
        folder: of the files.
        title: of the page and the objective's axis.

    Returns:
        The files; none if no trial is complete, and no page if plotly is not installed.

    Raises:
        EnvironmentFailure: the files cannot be written.
    """
    from optuna.trial import TrialState

    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    if not complete:
        logger.info("no trial is complete: no figures")
        return []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Optuna warns that half of them are experimental.
        options_by_figure = _figure_options(study, complete, title)
        if len(options_by_figure) < len(FIGURES):
            omitted = " and ".join(name for name in FIGURES if name not in options_by_figure)
            logger.info("no figure of %s: it needs two complete trials that differ, and two hyperparameters", omitted)
        files = [_draw(study, name, folder / f"{name}.png", each) for name, each in options_by_figure.items()]
        if importlib.util.find_spec("plotly") is None:
            logger.info("no search.html: it needs plotly, which is not installed (pip install plotly)")
            return files
        return [*files, _write_page(study, options_by_figure, folder / "search.html", title)]


def _figure_options(study: "Study", complete: "Sequence[FrozenTrial]", title: str) -> dict[str, dict[str, Any]]:
    """Return name → options of each figure for which there is enough data."""
    from optuna.importance import FanovaImportanceEvaluator, get_param_importances

    values = dict.fromkeys(pair for trial in complete for pair in trial.params.items())
    names = [name for name, _ in values]
    varied = [name for name in dict.fromkeys(names) if names.count(name) > 1]
    options_by_figure: dict[str, dict[str, Any]] = {name: {"target_name": title} for name in FIGURES}
    if not varied or len({trial.value for trial in complete}) == 1:
        del options_by_figure["importances"], options_by_figure["contour"]
        return options_by_figure
    importance_options: dict[str, Any] = {"evaluator": FanovaImportanceEvaluator(seed=_SEED), "params": varied}
    options_by_figure["importances"].update(importance_options)
    if len(varied) == 1:
        del options_by_figure["contour"]
    else:
        by_importance = list(get_param_importances(study, **importance_options))
        options_by_figure["contour"]["params"] = by_importance[:_MAX_IN_CONTOUR]
    return options_by_figure


def _write_page(study: "Study", options_by_figure: Mapping[str, Mapping[str, Any]], path: Path, title: str) -> Path:
    """Write all figures into one file with a single copy of plotly."""
    import optuna.visualization as interactive

    parts: list[str] = []
    for name, options in options_by_figure.items():
        figure = getattr(interactive, FIGURES[name])(study, **options)
        if name == "history":  # Steps: the best value changes at a trial, not between trials.
            figure.update_traces(line_shape="hv", selector={"mode": "lines"})
        if name == "contour":
            figure.update_layout(height=_CONTOUR_ROW_HEIGHT * len(options["params"]))
        parts.append(figure.to_html(full_html=False, include_plotlyjs=not parts, div_id=name, config=_PLOTLY_CONFIG))
    write_text(path, render_template("html/search.html", title=title, parts=parts))
    return path


def _draw(study: "Study", name: str, path: Path, options: Mapping[str, Any]) -> Path:
    """Draw one figure with Optuna, adjust it and write it as PNG."""
    import matplotlib
    from matplotlib import pyplot
    from optuna.visualization import matplotlib as drawn

    trials = study.get_trials(deepcopy=False)
    distributions = {key: kind for trial in trials for key, kind in trial.distributions.items()}
    draw: Callable[..., Any] = getattr(drawn, FIGURES[name])
    # Optuna draws by pyplot and changes its style; both are restored.
    with matplotlib.rc_context({"figure.max_open_warning": 0, "figure.dpi": DOTS_PER_INCH}):
        pyplot.switch_backend("agg")
        axes = np.asarray(draw(study, **options))
        figure = axes.flat[0].figure
        _ADJUSTMENTS[name](figure, axes, distributions)
        save_png(figure, path)
        pyplot.close(figure)
    return path


def _adjust_history(figure: "Figure", axes: "np.ndarray[Any, Any]", distributions: "Distributions") -> None:
    from matplotlib.ticker import MaxNLocator

    figure.set_size_inches(9, 4.5)
    axes.flat[0].xaxis.set_major_locator(MaxNLocator("auto", integer=True))
    for line in axes.flat[0].lines:  # The best value changes at a trial, not between trials.
        line.set_drawstyle("steps-post")


def _adjust_importances(figure: "Figure", axes: "np.ndarray[Any, Any]", distributions: "Distributions") -> None:
    only = axes.flat[0]
    figure.set_size_inches(8, 1.5 + 0.4 * len(only.texts))
    for text in only.texts:
        text.set_text(f" {text.get_text()}")
    legend = only.get_legend()  # It has a single entry, and may cover the bars.
    only.set_xlabel(f"importance for {legend.get_texts()[0].get_text()}")
    legend.remove()


def _adjust_parallel(figure: "Figure", axes: "np.ndarray[Any, Any]", distributions: "Distributions") -> None:
    main, bar, *others = figure.axes
    figure.set_size_inches(2 + 1.5 * len(others), 5.5)
    main.set_facecolor(_BACKGROUND)
    names = [label.get_text() for label in main.get_xticklabels()]
    for other, name in zip(others, names[1:], strict=True):
        _format_axis(other.yaxis, distributions.get(name))
    _slant_labels(main.xaxis)
    # The colour bar moves to the right of all labels. The saved image includes what lies outside the figure.
    figure.canvas.draw()
    inch = figure.dpi / figure.bbox.width
    edges = [other.get_tightbbox().x1 / figure.bbox.width + 0.2 * inch for other in others]  # type: ignore[union-attr]
    place = bar.get_position()
    bar.set_position((max([place.x0, *edges]), place.y0, 0.2 * inch, place.height))
    bar.set_box_aspect(None)


def _adjust_contour(figure: "Figure", axes: "np.ndarray[Any, Any]", distributions: "Distributions") -> None:
    grid = axes.reshape(-1, axes.shape[-1]) if axes.ndim else axes.reshape(1, 1)
    side = 2.7 * len(grid) + 2
    figure.set_size_inches(side * 1.2, side)
    for each in grid.flat:
        _format_axis(each.xaxis, distributions.get(each.get_xlabel()))
        _format_axis(each.yaxis, distributions.get(each.get_ylabel()))
    if len(grid) > 1:
        for each in grid.diagonal():  # A parameter against itself: only its labels at the edge are needed.
            each.grid(visible=False)
            each.set_facecolor("none")
            each.tick_params(which="both", length=0)
        for each in grid.flat:
            each.label_outer()
        figure.suptitle("Contour Plot", y=0.92)


def _adjust_slice(figure: "Figure", axes: "np.ndarray[Any, Any]", distributions: "Distributions") -> None:
    figure.set_size_inches(2 + 2.2 * axes.size, 4.5)
    for each in axes.flat:
        _format_axis(each.xaxis, distributions.get(each.get_xlabel()))
    if axes.size > 1:
        figure.suptitle("Slice Plot", y=0.97)


_ADJUSTMENTS: dict[str, "Callable[[Figure, np.ndarray[Any, Any], Distributions], None]"] = {
    "history": _adjust_history,
    "importances": _adjust_importances,
    "parallel_coordinates": _adjust_parallel,
    "contour": _adjust_contour,
    "slice": _adjust_slice,
}


def _format_axis(axis: "Axis", distribution: "BaseDistribution | None") -> None:
    """Set ticks of a hyperparameter's axis to possible values, with labels that do not touch."""
    from matplotlib.axis import XAxis
    from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, StrMethodFormatter
    from optuna.distributions import CategoricalDistribution, IntDistribution

    below, is_log = isinstance(axis, XAxis), axis.get_scale() == "log"
    if is_log:
        low, high = axis.get_view_interval()
        axis.set_major_locator(LogLocator(subs=(1,) if high > (10 if below else 1000) * low else (1, 2, 5)))
        axis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axis.set_minor_formatter(NullFormatter())
    elif isinstance(distribution, IntDistribution):
        axis.set_major_locator(MaxNLocator("auto", integer=True))
    elif isinstance(distribution, CategoricalDistribution):
        words = [label.get_text().strip("'") for label in axis.get_ticklabels()]
        axis.set_ticks(list(axis.get_majorticklocs()), [escape_math(shorten(word, _MAX_CHOICE)) for word in words])
    if below and (is_log or isinstance(distribution, CategoricalDistribution)):
        _slant_labels(axis)


def _slant_labels(axis: "Axis") -> None:
    """Rotate the axis's labels, which are long."""
    for label in axis.get_ticklabels():
        label.set(rotation=25, ha="right", rotation_mode="anchor")
