"""What came of a search for hyperparameters: its figures as PNG, and together as one page that needs no network."""

import logging
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from soups.records import write_text
from soups.report.pictures import save

if TYPE_CHECKING:
    from optuna import Study

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
_INCHES = {"contour": (15, 12), "slice": (15, 4)}
"""Width and height where Optuna's own are too small for its labels."""
_LEAST_TRIALS = {"importances": 2, "contour": 2}
_MOST_IN_CONTOUR = 4
"""Hyperparameters in the grid of contours: the first of them; all against all of many is too small to see."""


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
    names = [name for name in FIGURES if len(complete) >= _LEAST_TRIALS.get(name, 1)]
    if "importances" in names and len({trial.value for trial in complete}) == 1:
        names.remove("importances")
    if "contour" in names and len(complete[0].params) == 1:
        names.remove("contour")
    if len(names) < len(FIGURES):
        left = " and ".join(name for name in FIGURES if name not in names)
        logger.info("no figure of %s: that takes two complete trials that differ, and two hyperparameters", left)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Optuna calls half of them experimental.
        pictures = [_picture(study, name, folder / f"{name}.png", title) for name in names]
        page = _page(study, names, folder / "search.html", title)
    return [*pictures, page]


def _options(study: "Study", name: str, title: str) -> dict[str, Any]:
    from optuna.importance import FanovaImportanceEvaluator

    if name == "importances":
        return {"evaluator": FanovaImportanceEvaluator(seed=_SEED), "target_name": title}
    if name == "contour":
        parameters = list(dict.fromkeys(each for trial in study.trials for each in trial.params))
        return {"params": parameters[:_MOST_IN_CONTOUR], "target_name": title}
    return {"target_name": title}


def _picture(study: "Study", name: str, path: Path, title: str) -> Path:
    import matplotlib
    import numpy as np
    from matplotlib import pyplot
    from optuna.visualization import matplotlib as drawn

    draw: Callable[..., Any] = getattr(drawn, FIGURES[name])
    # Optuna draws by pyplot and changes its style; both are put back.
    with matplotlib.rc_context({"figure.max_open_warning": 0}):
        pyplot.switch_backend("agg")
        axes = np.asarray(draw(study, **_options(study, name, title))).flat[0]
        figure = axes.figure
        if name in _INCHES:
            figure.set_size_inches(*_INCHES[name])
        save(figure, path)
        pyplot.close(figure)
    return path


def _page(study: "Study", names: Sequence[str], path: Path, title: str) -> Path:
    """All figures in one file, with the one copy of plotly that they need."""
    import optuna.visualization as interactive
    from jinja2 import Environment

    parts: list[str] = []
    for name in names:
        figure = getattr(interactive, FIGURES[name])(study, **_options(study, name, title))
        parts.append(figure.to_html(full_html=False, include_plotlyjs=not parts, div_id=name))
    page = Environment(autoescape=True).from_string(_PAGE)
    write_text(path, page.render(title=title, parts=parts))
    return path


_PAGE = """<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><title>{{ title }}</title></head>
<body>
{% for part in parts %}{{ part | safe }}
{% endfor %}</body>
</html>
"""
