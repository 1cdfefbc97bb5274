"""One draw of validation images: what each rule takes by them, and its score on all other test images."""

import math
from collections.abc import Sequence
from functools import lru_cache, partial
from typing import Any

import numpy as np

from soups.core.scores import softmax
from soups.ensembles.choice import Choice, assign_folds, choose, sum_losses
from soups.ensembles.temperature import fit_temperature
from soups.recipes.greedy import greedy
from soups.recipes.greedy_log_loss import greedy_log_loss
from soups.recipes.shared.pool import RecipeFunction
from soups.recipes.shared.sweep import best_first
from tools.choice_simulation.fine_tunes import stratified_rows
from tools.choice_simulation.subsets import SubsetJudge, Subsets, image_losses, mask_of

_RESAMPLES = 200
"""Of the groups, for a standard error; the product takes more."""
BEST_SINGLE, UNIFORM = "best single", "uniform"
GREEDY: dict[str, RecipeFunction] = {
    "greedy, equal (Algorithm 1)": partial(greedy, accept="equal"),
    "greedy, ties by log-loss": partial(greedy, accept="ties-by-log-loss"),
    "greedy, significant": partial(greedy, accept="significant"),
    "greedy on log-loss": greedy_log_loss,
}
"""Rule → recipe."""
VERSION = 2
"""Of the rules; draws of another version are made again."""
CANDIDATES = (BEST_SINGLE, "greedy, ties by log-loss", "greedy on log-loss", UNIFORM)
"""Among which the choice is made."""
CHOICES: dict[str, tuple[int, int]] = {
    **{f"choose, {factor:+d} SE".replace("+0", "0"): (len(CANDIDATES), factor) for factor in (2, 1, 0, -1, -2)},
    **{
        f"choose without uniform, {factor:+d} SE".replace("+0", "0"): (CANDIDATES.index(UNIFORM), factor)
        for factor in (1, 0, -1)
    },
}
"""Rule → the number of candidates, and standard errors of `ensembles.choice.choose`: by 1, a soup is taken if it is not
clearly worse than the best single model, by -1, if it is clearly better."""


def select(subsets: Subsets, rows: np.ndarray, rules: Sequence[str]) -> dict[str, int]:
    """Return rule → subset that it takes by these validation images."""
    judge = SubsetJudge(subsets, rows)
    pool = judge.pool()
    taken = {BEST_SINGLE: mask_of(best_first(pool.ingredients)[0].load()), UNIFORM: (1 << subsets.models) - 1}
    return taken | {rule: mask_of(GREEDY[rule](pool, judge).state) for rule in rules if rule not in taken}


def cross_fit(subsets: Subsets, rows: np.ndarray, folds: np.ndarray) -> np.ndarray:
    """Return the losses of `CANDIDATES` that are made, and get a temperature, on all folds but the image's own.

    Args:
        subsets: of the pool.
        rows: (K,) int64, validation images.
        folds: (K,) int64, fold of each.

    Returns:
        (M, K) float64 log-losses in nats.
    """
    found = np.empty((len(CANDIDATES), len(rows)))
    for fold in range(int(folds.max()) + 1):
        others, own = rows[folds != fold], rows[folds == fold]
        losses = lru_cache(partial(tempered_losses, subsets, others, own))
        taken = select(subsets, others, CANDIDATES)
        found[:, folds == fold] = [losses(taken[name]) for name in CANDIDATES]
    return found


def tempered_losses(subsets: Subsets, rows: np.ndarray, others: np.ndarray, mask: int) -> np.ndarray:
    """Return the log-losses of other images, after a temperature fitted on `rows`."""
    logits = subsets.logits(mask)
    temperature = fit_temperature(logits[rows], subsets.labels[rows])
    return image_losses(softmax(logits[others] / temperature), subsets.labels[others])


def choices(losses: np.ndarray, folds: np.ndarray, seed: int) -> dict[str, str]:
    """Return each rule of `CHOICES` → the candidate that it chooses.

    Args:
        losses: (M, K) of `CANDIDATES`, from `cross_fit`.
        folds: (K,) fold of each image; each image is a group of its own.
        seed: of the resampling.
    """

    @lru_cache
    def rival(number: int) -> Choice:  # One resampling serves all standard errors; a test compares with `choose`.
        return choose(sum_losses(losses[:number]), folds, math.inf, repeats=_RESAMPLES, seed=seed)

    chosen = {}
    for rule, (number, factor) in CHOICES.items():
        found = rival(number)
        worse = found.losses[found.rival] - found.losses[0] > factor * found.error
        chosen[rule] = CANDIDATES[0 if worse else found.chosen]
    return chosen


def run_draw(subsets: Subsets, images: int, folds_number: int, seed: Sequence[int]) -> dict[str, dict[str, Any]]:
    """Return rule → what it takes, `taken`, and its differences to the best single model on the other test images.

    Args:
        subsets: of the pool.
        images: number of validation images, drawn by class.
        folds_number: folds of the cross-fitting, each with about equal shares of the classes.
        seed: of the draw.
    """
    generator = np.random.default_rng(seed)
    rows = stratified_rows(subsets.labels, images / len(subsets.labels), generator)
    rest = np.delete(np.arange(len(subsets.labels)), rows)
    folds = assign_folds(subsets.labels[rows], rows, folds_number, int(generator.integers(1 << 31)))
    taken = select(subsets, rows, (BEST_SINGLE, *GREEDY, UNIFORM))
    chosen = choices(cross_fit(subsets, rows, folds), folds, int(generator.integers(1 << 31)))
    taken |= {rule: taken[name] for rule, name in chosen.items()}
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
