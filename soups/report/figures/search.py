"""What came of a search for hyperparameters: its figures as PNG, and together as one page that needs no network."""

import logging
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from soups.files.atomic import write_text
from soups.report.figures.search_figures import draw_picture

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
"""Name → Optuna's function, which is there twice: for plotly and for matplotlib."""
_MOST_IN_CONTOUR = 4
"""Hyperparameters in the grid of contours: the most important; all against all of many is too small to see."""
_PIXELS = 220
"""Height of a row of contours in the page."""
_PLOTLY = {"responsive": True, "displaylogo": False, "showSendToCloud": False}
"""No button sends what is private to plotly's makers."""


def draw_figures(study: "Study", folder: Path, title: str) -> list[Path]:
    """Draw each figure as PNG, and all of them into `search.html`, where they answer to the mouse.

    Args:
        study: with its trials.
        folder: of the files.
        title: of the page and the objective's axis.

    Returns:
        The files; none where no trial is complete.

    Raises:
        EnvironmentFailure: the files cannot be written.
    """
    from optuna.trial import TrialState

    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    if not complete:
        logger.info("no trial is complete: no figures")
        return []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Optuna calls half of them experimental.
        wanted = _wanted(study, complete, title)
        if len(wanted) < len(FIGURES):
            left = " and ".join(name for name in FIGURES if name not in wanted)
            logger.info("no figure of %s: that takes two complete trials that differ, and two hyperparameters", left)
        pictures = [
            draw_picture(study, name, folder / f"{name}.png", FIGURES[name], options)
            for name, options in wanted.items()
        ]
        page = _page(study, wanted, folder / "search.html", title)
    return [*pictures, page]


def _wanted(study: "Study", complete: "Sequence[FrozenTrial]", title: str) -> dict[str, dict[str, Any]]:
    """Name → options of each figure that there is something in."""
    from optuna.importance import FanovaImportanceEvaluator, get_param_importances

    values: dict[str, set[Any]] = {}
    for trial in complete:
        for name, value in trial.params.items():
            values.setdefault(name, set()).add(value)
    varied = [name for name, found in values.items() if len(found) > 1]
    wanted: dict[str, dict[str, Any]] = {name: {"target_name": title} for name in FIGURES}
    if not varied or len({trial.value for trial in complete}) == 1:
        del wanted["importances"], wanted["contour"]
        return wanted
    weighing: dict[str, Any] = {"evaluator": FanovaImportanceEvaluator(seed=_SEED), "params": varied}
    wanted["importances"].update(weighing)
    if len(varied) == 1:
        del wanted["contour"]
    else:
        wanted["contour"]["params"] = list(get_param_importances(study, **weighing))[:_MOST_IN_CONTOUR]
    return wanted


def _page(study: "Study", wanted: Mapping[str, Mapping[str, Any]], path: Path, title: str) -> Path:
    """All figures in one file, with the one copy of plotly that they need."""
    import optuna.visualization as interactive
    from jinja2 import Environment

    parts: list[str] = []
    for name, options in wanted.items():
        figure = getattr(interactive, FIGURES[name])(study, **options)
        if name == "history":  # The best value does not improve before the trial that is better.
            figure.update_traces(line_shape="hv", selector={"mode": "lines"})
        if name == "contour":
            figure.update_layout(height=_PIXELS * len(options["params"]))
        parts.append(figure.to_html(full_html=False, include_plotlyjs=not parts, div_id=name, config=_PLOTLY))
    page = Environment(autoescape=True).from_string(_PAGE)
    write_text(path, page.render(title=title, parts=parts))
    return path


_PAGE = """<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><title>{{ title }}</title></head>
<body>
{% for part in parts %}<div style="overflow-x: auto">{{ part | safe }}</div>
{% endfor %}</body>
</html>
"""
