"""Votes of models of a run, from their stored logits."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from soups.core.labels import LabelSpace
from soups.core.metrics import METRICS
from soups.ensembles import RULES
from soups.pipeline.score.context import RunContext
from soups.pipeline.score.evaluate import evaluate_individuals, pool_paths


def vote(
    context: RunContext,
    rule: str,
    paths: Sequence[Path],
    set_names: Sequence[str],
    weights: np.ndarray | None = None,
    space: LabelSpace | None = None,
) -> dict[str, np.ndarray]:
    """Returns set → (N, C) float64 combined probabilities of several models, by a voting rule.

    Args:
        context: the run.
        rule: a key of `RULES`.
        paths: the M models.
        set_names: sets to vote on.
        weights: (M,), for `weighted`.
        space: the models' classes; None: the run's.
    """
    members = [context.probabilities(path, set_names, space) for path in paths]
    stacks = {name: np.stack([member[name] for member in members]) for name in set_names}
    own = space or context.run.space
    return {name: RULES[rule](stack, weights, own) for name, stack in stacks.items()}


def best_single(context: RunContext) -> Path:
    """Returns the fine-tune with the best validation score; ties go to the lower log-loss, then to the first name."""
    metric, lines = METRICS[context.evaluation.metric], evaluate_individuals(context)

    def sort_key(name: str) -> tuple[float, float, str]:
        values = lines[name]["metrics"]["val"]
        sign = -1 if metric.higher_is_better else 1
        return sign * values[metric.name], values["log_loss"], name

    return pool_paths(context.run)[min(lines, key=sort_key)]
