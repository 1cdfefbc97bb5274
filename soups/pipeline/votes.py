"""Votes of models of a run, from their kept logits."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from soups.ensembles import RULES, fit_weights
from soups.errors import DataError
from soups.metrics import METRICS
from soups.pipeline.evaluate import Bench, evaluate_individuals, pool_paths


def vote(
    bench: Bench, rule: str, paths: Sequence[Path], set_names: Sequence[str], weights: np.ndarray | None = None
) -> dict[str, np.ndarray]:
    """Set → (N, C) float64: what the models say together by a rule of `RULES`.

    Args:
        bench: the run.
        rule: `soft`, `hard` or `weighted`.
        paths: the M models.
        set_names: on which sets.
        weights: (M,), for `weighted`.
    """
    members = [bench.probabilities(path, set_names) for path in paths]
    return {name: RULES[rule](np.stack([member[name] for member in members]), weights) for name in set_names}


def fitted_weights(bench: Bench, paths: Sequence[Path]) -> np.ndarray:
    """(M,) convex weights fitted on the log-loss of the run's validation set.

    Raises:
        DataError: there is nothing to fit them on that was not trained on.
    """
    if "val" not in set(bench.run.samples["split"]):
        raise DataError(
            f"run {bench.run.name!r} has no validation images to fit weights on",
            next_step="give the weights: --weighted-ensemble M=0.6 N=0.4",
        )
    members = np.stack([bench.probabilities(path, ["val"])["val"] for path in paths])
    return fit_weights(members, bench.labels("val"))


def best_single(bench: Bench) -> Path:
    """The fine-tune with the best validation score; ties go to the lower log-loss, then to the name."""
    metric = METRICS[bench.evaluation.metric]
    lines = evaluate_individuals(bench)
    paths = pool_paths(bench.run)

    def merit(name: str) -> tuple[float, float, str]:
        values = lines[name]["metrics"]["val"]
        sign = -1 if metric.higher_is_better else 1
        return sign * values[metric.name], values["log_loss"], name

    return paths[min(lines, key=merit)]


def default_model(bench: Bench) -> Path:
    """The greedy soup if there is one, else the best model by validation."""
    soup = bench.run.soup_path("greedy")
    return soup if soup.exists() else best_single(bench)
