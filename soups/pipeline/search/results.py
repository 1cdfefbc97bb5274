"""Results of a search: a table on stdout, all trials as CSV, and figures."""

import logging
from typing import TYPE_CHECKING, Any

from soups.checkpoints.checkpoint import SUFFIX
from soups.files.atomic import write_table
from soups.pipeline.run.run import Run
from soups.pipeline.search.plan import SOUP, SearchPlan
from soups.pipeline.search.trials import Trials
from soups.pipeline.train.trackers import log_figures
from soups.report.figures.search import draw_search_figures
from soups.report.tables import align_columns

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

logger = logging.getLogger(__name__)

_TABLE_ROWS = 10
_STATES = {"COMPLETE": "complete", "PRUNED": "pruned", "FAIL": "failed"}


def show_results(trials: Trials, plan: SearchPlan, run: Run, wandb: str) -> list[str]:
    """Print the best trials, write all trials to `output/search.csv` and draw the figures.

    Args:
        trials: the trials of the search.
        plan: the search's settings, which define the ranking.
        run: the run; the files are written to its folder.
        wandb: mode of Weights & Biases for the figures: disabled, offline or online.

    Returns:
        A line per failed trial, with the reason.
    """
    import pandas as pd

    all_trials = trials.all()
    rows = [_trial_row(trial, plan, run) for trial in all_trials]
    write_table(run.folder / "output" / "search.csv", pd.DataFrame(rows))
    ranked = plan.rank(all_trials)
    counts = {word: sum(row["state"] == word for row in rows) for word in _STATES.values()}
    print(f"search {run.name}: " + ", ".join(f"{count} {word}" for word, count in counts.items() if count))
    if ranked:
        best = [rows[trial.number] for trial in ranked[:_TABLE_ROWS]]
        names = [name for name in best[0] if name not in ("state", "epochs_done", "kept", "note")]
        cells = [[_format_value(row[name], name == plan.objective) for name in names] for row in best]
        print(align_columns([names, *cells]))
        print(f"by {_objective_text(plan)}; all trials in {run.folder / 'output' / 'search.csv'}")
    files = draw_search_figures(trials.study(), run.folder / "figures" / "search", _objective_text(plan))
    if files:
        logger.info("%s", files[-1])
        log_figures(wandb, run.name, f"{run.name}-search", files)
    return [f"trial {row['trial']}: {row['note']}" for row in rows if row["state"] == "failed"]


def _objective_text(plan: SearchPlan) -> str:
    if plan.objective != SOUP:
        return f"validation {plan.objective.replace('_', ' ')}"
    return f"gain of the greedy soup in validation {plan.metric.replace('_', ' ')}"


def _trial_row(trial: "FrozenTrial", plan: SearchPlan, run: Run) -> dict[str, Any]:
    model = trial.user_attrs.get("model", "")
    return {
        "trial": trial.number,
        "state": _STATES.get(trial.state.name, "running"),
        plan.objective: trial.value,
        **trial.params,
        "epochs_done": max(trial.intermediate_values, default=""),
        "model": model,
        "kept": (run.models / f"{model}{SUFFIX}").exists() if model else False,
        "note": trial.user_attrs.get("note", ""),
    }


def _format_value(value: Any, objective: bool) -> str:
    if isinstance(value, float):
        return f"{value:.4f}" if objective else f"{value:.4g}"
    return "" if value is None else str(value)
