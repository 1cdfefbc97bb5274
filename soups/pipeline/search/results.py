"""What a search has come to: its table on stdout, all trials as CSV, and the figures."""

import logging
from typing import TYPE_CHECKING, Any

from soups.checkpoints.checkpoint import SUFFIX
from soups.files.atomic import write_table
from soups.pipeline.run.run import Run
from soups.pipeline.search.plan import SearchPlan
from soups.pipeline.search.trials import Trials
from soups.pipeline.train.trackers import log_figures
from soups.report.comparison import align_columns
from soups.report.figures.search import draw_figures

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

logger = logging.getLogger(__name__)

_SHOWN = 10
_STATES = {"COMPLETE": "complete", "PRUNED": "pruned", "FAIL": "failed"}


def show_results(trials: Trials, plan: SearchPlan, run: Run, wandb: str) -> list[str]:
    """Print the best trials, write all of them to `output/search.csv` and draw the figures.

    Args:
        trials: of the search.
        plan: what makes one better than another.
        run: its folder takes the files.
        wandb: whether the figures go to Weights & Biases: disabled, offline or online.

    Returns:
        The trials that failed, with the reason of each.
    """
    import pandas as pd

    everything = trials.all()
    rows = [_row(trial, plan, run) for trial in everything]
    write_table(run.folder / "output" / "search.csv", pd.DataFrame(rows))
    ranked = plan.ranked(everything)
    counts = {word: sum(row["state"] == word for row in rows) for word in _STATES.values()}
    print(f"search {run.name}: " + ", ".join(f"{count} {word}" for word, count in counts.items() if count))
    if ranked:
        print(align_columns(_cells([rows[trial.number] for trial in ranked[:_SHOWN]], plan)))
        print(f"by {_words(plan)}; all trials in {run.folder / 'output' / 'search.csv'}")
    files = draw_figures(trials.study(), run.folder / "figures" / "search", _words(plan))
    if files:
        logger.info("%s", files[-1])
        log_figures(wandb, run.name, f"{run.name}-search", files)
    return [f"trial {row['trial']}: {row['note']}" for row in rows if row["state"] == "failed"]


def _words(plan: SearchPlan) -> str:
    name = plan.metric.replace("_", " ")
    if plan.objective == plan.metric or plan.objective != "soup":
        return f"validation {plan.objective.replace('_', ' ')}"
    return f"gain of the greedy soup in validation {name}"


def _row(trial: "FrozenTrial", plan: SearchPlan, run: Run) -> dict[str, Any]:
    model = trial.user_attrs.get("model", "")
    return {
        "trial": trial.number,
        "state": _STATES.get(trial.state.name, "running"),
        plan.objective: trial.value,
        **{name: trial.params.get(name) for name in trial.params},
        "epochs_done": max(trial.intermediate_values, default=""),
        "model": model,
        "kept": (run.models / f"{model}{SUFFIX}").exists() if model else False,
        "note": trial.user_attrs.get("note", ""),
    }


def _cells(rows: list[dict[str, Any]], plan: SearchPlan) -> list[list[str]]:
    left = {"state", "epochs_done", "kept", "note"}
    names = [name for name in rows[0] if name not in left]
    return [names] + [[_text(row[name], name == plan.objective) for name in names] for row in rows]


def _text(value: Any, objective: bool) -> str:
    if isinstance(value, float):
        return f"{value:.4f}" if objective else f"{value:.4g}"
    return "" if value is None else str(value)
