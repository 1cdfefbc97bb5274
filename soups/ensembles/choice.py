"""Choice of the model that answers: folds of validation images, and the rule on the cross-fitted losses of candidates.

Only arrays: `pipeline/compare` computes the losses and records the choice.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from soups.core.scores import CALIBRATION_BINS
from soups.core.statistics import balanced_accuracy_from_sums, class_sums, draw_counts, macro_f1_from_sums

FOLDS = 5
STANDARD_ERRORS = -1.0
"""See `choose`. In the simulation of `docs/results.md`, values from 0 up take a worse model twice as often."""
MOST_UNITS = 2000
"""See `merge_groups`."""
FEWEST_GROUPS = 6
"""With fewer groups the standard error and the p-value are too uncertain to rely on."""

Statistic = Callable[[np.ndarray], np.ndarray]
"""Sums over drawn groups (R, K) → (R,) losses."""


@dataclass(frozen=True)
class Choice:
    """The chosen candidate, and how it was compared with the first one."""

    chosen: int
    """Index of the candidate."""
    rival: int
    """Index of the candidate with the lowest loss of all but the first; 0 if there is only one candidate."""
    losses: np.ndarray
    """(M,) float64 loss of each candidate."""
    error: float
    """Standard error of the rival's loss minus the first candidate's."""
    p: float | None
    """p-value of the rival's lower loss, corrected for the number of candidates (max-T); None with too few groups."""


def assign_folds(labels: np.ndarray, groups: np.ndarray, folds: int = FOLDS, seed: int = 0) -> np.ndarray:
    """Divide images into folds with about equal shares of each class, groups kept whole.

    Args:
        labels: (N,) int64, classes.
        groups: (N,) names; if all images are of one group, each image is a group of its own.
        folds: number of folds; at most the number of groups.
        seed: seed of the draws.

    Returns:
        (N,) int64, from 0 without gaps.
    """
    names, group_of = np.unique(groups, return_inverse=True)
    if 1 < len(names) < len(labels):
        if len(names) <= folds:
            return np.asarray(group_of, dtype=np.int64)
        from sklearn.model_selection import StratifiedGroupKFold

        classes = labels if np.unique(labels, return_counts=True)[1].max() >= folds else np.zeros_like(labels)
        fold_of = np.empty(len(labels), dtype=np.int64)
        splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
        with warnings.catch_warnings():  # Classes with fewer images than folds.
            warnings.simplefilter("ignore")
            for fold, (_, rows) in enumerate(splitter.split(labels, classes, group_of)):
                fold_of[rows] = fold
        return np.unique(fold_of, return_inverse=True)[1].astype(np.int64)
    order = np.random.default_rng(seed).permutation(len(labels))
    order = order[np.argsort(labels[order], kind="stable")]
    fold_of = np.empty(len(labels), dtype=np.int64)
    fold_of[order] = np.arange(len(labels)) % min(folds, len(labels))
    return fold_of


def merge_groups(groups: np.ndarray, folds: np.ndarray, most: int = MOST_UNITS, seed: int = 0) -> np.ndarray:
    """Join groups at random, each within its fold, so that at most about `most` units are resampled.

    The standard error of a mean does not depend on it, but the time of resampling does.

    Args:
        groups: (N,) names.
        folds: (N,) int64, fold of each image.
        most: largest number of groups that are left as they are.
        seed: seed of the draws.

    Returns:
        (N,) int64, the unit of each image.
    """
    names, first, owner = np.unique(groups, return_index=True, return_inverse=True)
    if len(names) <= most:
        return owner.astype(np.int64)
    order = np.random.default_rng(seed).permutation(len(names))
    fold_of = folds[first]
    unit_of = np.empty(len(names), dtype=np.int64)
    size = most // len(np.unique(folds))
    for fold in np.unique(folds):
        own = order[fold_of[order] == fold]
        unit_of[own] = fold * size + np.arange(len(own)) % size
    return unit_of[owner]


def sum_losses(losses: np.ndarray, groups: np.ndarray | None = None) -> np.ndarray:
    """Return sum and number of each group's losses, (M, G, 2) float64; groups in sorted order.

    Args:
        losses: (M, N) losses of M candidates on N images.
        groups: (N,) names; None: each image is a group of its own.
    """
    owner = np.arange(losses.shape[1]) if groups is None else np.unique(groups, return_inverse=True)[1]
    sums = np.stack([np.bincount(owner, weights=row) for row in np.asarray(losses, dtype=np.float64)])
    return np.stack([sums, np.broadcast_to(np.bincount(owner), sums.shape)], axis=-1)


def mean_loss(sums: np.ndarray) -> np.ndarray:
    """Return means from sums of `sum_losses`, (…, 2) to (…)."""
    return np.asarray(sums[..., 0] / sums[..., 1])


def sums_of_answers(metric: str, answers: np.ndarray, labels: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Return the sums over groups that a metric's loss is made of, (M, G, K).

    Args:
        metric: a key of `STATISTICS`.
        answers: (M, N, 3) predicted classes, their probabilities, probabilities of the true class.
        labels: (N,) int64.
        groups: (N,) names.
    """
    predicted, right = answers[:, :, 0].astype(np.int64), answers[:, :, 0] == labels
    if metric == "log_loss":
        return sum_losses(-np.log(np.clip(answers[:, :, 2], np.finfo(np.float64).eps, 1.0)), groups)
    if metric == "accuracy":
        return sum_losses(~right, groups)
    if metric == "calibration_error":
        owner = np.unique(groups, return_inverse=True)[1]
        bins = np.clip(np.ceil(answers[:, :, 1] * CALIBRATION_BINS).astype(np.int64) - 1, 0, CALIBRATION_BINS - 1)
        sums = np.zeros((len(answers), int(owner.max()) + 1, CALIBRATION_BINS + 1))
        for own, cell, gap in zip(sums, bins, right - answers[:, :, 1], strict=True):
            np.add.at(own, (owner, cell), gap)
        sums[:, :, -1] = np.bincount(owner)
        return sums
    classes = int(max(labels.max(), predicted.max())) + 1
    return np.stack([class_sums(labels, own, groups, classes) for own in predicted])


STATISTICS: dict[str, Statistic] = {
    "log_loss": mean_loss,
    "accuracy": mean_loss,
    "balanced_accuracy": lambda sums: 1 - balanced_accuracy_from_sums(sums),
    "macro_f1": lambda sums: 1 - macro_f1_from_sums(sums),
    "calibration_error": lambda sums: np.abs(sums[..., :-1]).sum(axis=-1) / sums[..., -1],
}
"""Metric → its loss, lower is better, from the sums of `sums_of_answers`."""


def choose(
    sums: np.ndarray,
    folds: np.ndarray,
    standard_errors: float = STANDARD_ERRORS,
    *,
    statistic: Statistic = mean_loss,
    repeats: int = 2000,
    seed: int = 0,
) -> Choice:
    """Choose the candidate with the lowest cross-fitted loss, or the first one, the best single model.

    The rival is the candidate with the lowest loss of all but the first, ties to the lower index. It is chosen if its
    loss minus the first one's is less than `standard_errors` standard errors of this difference; so a value of 1
    prefers soups that are not clearly worse, 0 takes the lowest loss, and -1, the default, asks that the rival is
    clearly better. A rival that is the same model as the first is not chosen.

    Groups are resampled within folds, because what is scored differs between folds. Where a fold has a single group,
    which cannot vary, they are resampled over all folds. The p-value is that of the single-step max-T test (Westfall
    and Young 1993) on these resamples, centred at the observed differences.

    Args:
        sums: (M, G, K) sums over each group's images that the statistic is made of, as from `sum_losses`.
        folds: (G,) fold of each group.
        standard_errors: largest difference that is accepted, in standard errors.
        statistic: loss from sums over groups; lower is better.
        repeats: number of resamples.
        seed: seed of the resampling.
    """
    sums = np.asarray(sums, dtype=np.float64)  # Products of integers are slow.
    losses = np.array([statistic(own.sum(axis=0, keepdims=True))[0] for own in sums])
    if len(losses) == 1:
        return Choice(0, 0, losses, 0.0, None)
    rival = 1 + int(losses[1:].argmin())
    strata = folds if np.unique(folds, return_counts=True)[1].min() > 1 else np.zeros_like(folds)
    resampled = np.empty((len(sums), repeats))
    for rows, counts in draw_counts(strata, repeats, seed):
        for values, own in zip(resampled, sums, strict=True):
            values[rows] = statistic(counts.astype(np.float64) @ own)
    differences, drawn = losses[1:] - losses[0], resampled[1:] - resampled[0]
    errors = drawn.std(axis=1)
    error, difference = float(errors[rival - 1]), float(differences[rival - 1])
    p = None
    if len(folds) >= FEWEST_GROUPS and error > 0:
        varying = errors > 0
        lowest = ((drawn - differences[:, None])[varying] / errors[varying, None]).min(axis=0)
        p = float((1 + np.count_nonzero(lowest <= difference / error)) / (1 + repeats))
    return Choice(rival if difference < standard_errors * error else 0, rival, losses, error, p)
