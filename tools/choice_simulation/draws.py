"""One draw of validation images: what each rule takes by them, and its score on all other test images."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import numpy as np

from soups.core.scores import softmax
from soups.ensembles.temperature import fit_temperature
from soups.recipes.greedy import greedy
from soups.recipes.greedy_log_loss import greedy_log_loss
from soups.recipes.shared.pool import RecipeFunction
from soups.recipes.shared.sweep import best_first
from tools.choice_simulation.fine_tunes import stratified_rows
from tools.choice_simulation.subsets import SubsetJudge, Subsets, image_losses, mask_of

BEST_SINGLE, UNIFORM = "best single", "uniform"
GREEDY: dict[str, RecipeFunction] = {
    "greedy, equal (Algorithm 1)": partial(greedy, accept="equal"),
    "greedy, ties by log-loss": partial(greedy, accept="equal", ties="log_loss"),
    "greedy, significant": partial(greedy, accept="significant"),
    "greedy on log-loss": greedy_log_loss,
}
"""Rule → recipe."""
VERSION = 1
"""Of the rules; draws of another version are made again."""
CANDIDATES = (BEST_SINGLE, "greedy, ties by log-loss", "greedy on log-loss", UNIFORM)
"""Among which the choice is made."""


def select(subsets: Subsets, rows: np.ndarray, rules: Sequence[str]) -> dict[str, int]:
    """Return rule → subset that it takes by these validation images."""
    judge = SubsetJudge(subsets, rows)
    pool = judge.pool()
    taken = {BEST_SINGLE: mask_of(best_first(pool.ingredients)[0].load()), UNIFORM: (1 << subsets.models) - 1}
    return taken | {rule: mask_of(GREEDY[rule](pool, judge).state) for rule in rules if rule not in taken}


@dataclass(frozen=True)
class CrossFit:
    """Predictions of a rule for validation images that took no part in it."""

    losses: np.ndarray
    """(K,) float64 log-losses after a temperature fitted on the other folds."""
    correct: np.ndarray
    """(K,) int8."""


def cross_fit(subsets: Subsets, rows: np.ndarray, folds: np.ndarray) -> dict[str, CrossFit]:
    """Return candidate → its predictions: it is made, and its temperature fitted, on all folds but the image's own.

    Args:
        subsets: of the pool.
        rows: (K,) int64, validation images.
        folds: (K,) int64, fold of each.
    """
    found = {name: CrossFit(np.empty(len(rows)), np.empty(len(rows), np.int8)) for name in CANDIDATES}
    for fold in range(int(folds.max()) + 1):
        others, own = rows[folds != fold], rows[folds == fold]
        losses = lru_cache(partial(tempered_losses, subsets, others, own))
        taken = select(subsets, others, CANDIDATES)
        for name, result in found.items():
            result.losses[folds == fold] = losses(taken[name])
            result.correct[folds == fold] = subsets.correct(taken[name])[own]
    return found


def tempered_losses(subsets: Subsets, rows: np.ndarray, others: np.ndarray, mask: int) -> np.ndarray:
    """Return the log-losses of other images, after a temperature fitted on `rows`."""
    logits = subsets.logits(mask)
    temperature = fit_temperature(logits[rows], subsets.labels[rows])
    return image_losses(softmax(logits[others] / temperature), subsets.labels[others])


def choose(found: dict[str, CrossFit], folds: np.ndarray) -> dict[str, str]:
    """Return rule → the candidate that it chooses, for several rules of choosing.

    "soup unless worse": the soup with the lowest log-loss, unless it is worse than the best single model by more than
    k standard errors. "soup if better": that soup, if it is better by more than k standard errors. "lowest": the
    candidate with the lowest log-loss, unless its accuracy is worse by more than k standard errors.
    """
    single = found[BEST_SINGLE]
    lowest, soup = (min(names, key=lambda name: found[name].losses.mean()) for names in (CANDIDATES, CANDIDATES[1:]))
    excess, error = _mean_and_error(found[soup].losses - single.losses, folds)
    lost, lost_error = _mean_and_error(single.correct - found[lowest].correct.astype(float), folds)
    chosen = {}
    for factor in (0, 1, 2):
        chosen[f"choose: soup unless worse by {factor} SE"] = BEST_SINGLE if excess > factor * error else soup
        chosen[f"choose: soup if better by {factor} SE"] = soup if excess < -factor * error else BEST_SINGLE
        chosen[f"choose: lowest, accuracy within {factor} SE"] = BEST_SINGLE if lost > factor * lost_error else lowest
    return chosen


def _mean_and_error(differences: np.ndarray, folds: np.ndarray) -> tuple[float, float]:
    """Return the mean of paired differences and its standard error within folds."""
    squares = sum(float(((own - own.mean()) ** 2).sum()) for own in (differences[folds == k] for k in np.unique(folds)))
    return float(differences.mean()), math.sqrt(squares) / len(differences)


def run_draw(
    subsets: Subsets, images: int, folds_number: int, generator: np.random.Generator
) -> dict[str, dict[str, Any]]:
    """Return rule → what it takes, `taken`, and its differences to the best single model on the other test images.

    Args:
        subsets: of the pool.
        images: number of validation images, drawn by class.
        folds_number: folds of the cross-fitting, each with about equal shares of the classes.
        generator: of the draw.
    """
    labels = subsets.labels
    rows = stratified_rows(labels, images / len(labels), generator)
    rest = np.delete(np.arange(len(labels)), rows)
    order = generator.permutation(len(rows))
    folds = np.empty(len(rows), dtype=np.int64)
    folds[order[np.argsort(labels[rows][order], kind="stable")]] = np.arange(len(rows)) % folds_number
    taken = select(subsets, rows, (BEST_SINGLE, *GREEDY, UNIFORM))
    taken |= {rule: taken[name] for rule, name in choose(cross_fit(subsets, rows, folds), folds).items()}
    tempered = lru_cache(partial(tempered_losses, subsets, rows, rest))

    def differences(mask: int) -> dict[str, Any]:
        single = taken[BEST_SINGLE]
        return {
            "taken": mask,
            "gain": float((subsets.correct(mask)[rest] - subsets.correct(single)[rest]).mean()),
            "log_loss": float((tempered(mask) - tempered(single)).mean()),
            "raw_log_loss": float((subsets.losses(mask) - subsets.losses(single))[rest].mean()),
        }

    return {rule: differences(mask) for rule, mask in taken.items() if rule != BEST_SINGLE}
