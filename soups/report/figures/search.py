"""Figures of a hyperparameter search: as PNG, and together as one interactive HTML page without external resources."""

import importlib.util
import logging
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from soups.files.atomic import write_text
from soups.report.figures.search_figures import draw_search_figure

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import FrozenTrial

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
        pictures = [
            draw_search_figure(study, name, folder / f"{name}.png", FIGURES[name], options)
            for name, options in options_by_figure.items()
        ]
        if importlib.util.find_spec("plotly") is None:
            logger.info("no search.html: it needs plotly, which is not installed (pip install plotly)")
            return pictures
        return [*pictures, _write_page(study, options_by_figure, folder / "search.html", title)]


def _figure_options(study: "Study", complete: "Sequence[FrozenTrial]", title: str) -> dict[str, dict[str, Any]]:
    """Return name → options of each figure for which there is enough data."""
    from optuna.importance import FanovaImportanceEvaluator, get_param_importances

    values: dict[str, set[Any]] = {}
    for trial in complete:
        for name, value in trial.params.items():
            values.setdefault(name, set()).add(value)
    varied = [name for name, found in values.items() if len(found) > 1]
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
    from jinja2 import Environment

    parts: list[str] = []
    for name, options in options_by_figure.items():
        figure = getattr(interactive, FIGURES[name])(study, **options)
        if name == "history":  # Steps: the best value changes at a trial, not between trials.
            figure.update_traces(line_shape="hv", selector={"mode": "lines"})
        if name == "contour":
            figure.update_layout(height=_CONTOUR_ROW_HEIGHT * len(options["params"]))
        parts.append(figure.to_html(full_html=False, include_plotlyjs=not parts, div_id=name, config=_PLOTLY_CONFIG))
    page = Environment(autoescape=True).from_string(_PAGE_TEMPLATE)
    write_text(path, page.render(title=title, parts=parts))
    return path


_PAGE_TEMPLATE = """<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><title>{{ title }}</title></head>
<body>
{% for part in parts %}<div style="overflow-x: auto">{{ part | safe }}</div>
{% endfor %}</body>
</html>
"""
