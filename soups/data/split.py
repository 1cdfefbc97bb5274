"""The train/validation split: whole groups, chosen so that each class has nearly the same share in both parts."""

import logging
import math
from typing import TYPE_CHECKING

import numpy as np

from soups.core.errors import DataError
from soups.core.notes import add_note
from soups.data.layouts.image_files import format_list
from soups.data.limit import occurrences_before

if TYPE_CHECKING:
    import pandas as pd

logger = logging.getLogger(__name__)

DRAWS = 20
_GROUPS_TO_IMPROVE = range(21, 5001)
_MOST_SWAPS = 200


def split_samples(samples: "pd.DataFrame", val_ratio: float | None, seed: int) -> "pd.DataFrame":
    """Replace "" in `split` by "val" for a share of the groups and by "train" for the others.

    Of G groups, `round(val_ratio · G)` validate: the ratio counts groups, not images. The groups are drawn stratified
    by their most frequent class, `DRAWS` times, and the draw with the smallest imbalance of class shares is used. With
    21 to 5,000 groups, swaps of one group for another reduce the imbalance further. The result depends on the table and
    the seed, not on the order of the rows. If the table has "val" rows already, or `val_ratio` is None, all rows with
    "" become "train".

    scikit-learn's `StratifiedGroupKFold` supports only shares of 1/k and at most as many folds as groups.

    Args:
        samples: table with the text columns `image`, `label`, `group`, `split`.
        val_ratio: in (0, 1), or None.
        seed: seed of the draws.

    Returns:
        A new table with the same rows in the same order.

    Raises:
        DataError: the ratio needs more groups, or every choice leaves a class without training images.
    """
    samples = samples.copy()
    undecided = samples["split"] == ""
    if val_ratio is None or (samples["split"] == "val").any():
        samples.loc[undecided, "split"] = "train"
        return samples
    if not undecided.any():
        return samples
    rows = samples[undecided]
    names, group_of = np.unique(rows["group"].to_numpy(dtype=str), return_inverse=True)
    classes, class_of = np.unique(rows["label"].to_numpy(dtype=str), return_inverse=True)
    counts = np.zeros((len(names), len(classes)), dtype=np.int64)
    np.add.at(counts, (group_of, class_of), 1)
    validates = choose_groups(counts, _validation_group_count(len(names), val_ratio), seed, list(classes))
    drawn = f"{validates.sum():,} of {len(names):,} groups drawn (--val-ratio {val_ratio:g}, --split-seed {seed})"
    add_note("read as", f"validation images: {drawn}")
    if absent := classes[counts[validates].sum(axis=0) == 0].tolist():
        logger.warning("classes without validation images: %s (all their groups are in training)", format_list(absent))
    samples.loc[undecided, "split"] = np.where(validates[group_of], "val", "train")
    return samples


def _validation_group_count(groups: int, ratio: float) -> int:
    count = math.floor(ratio * groups + 0.5)
    if 1 <= count <= groups - 1:
        return count
    needed = max(math.ceil(0.5 / ratio), math.floor(0.5 / (1 - ratio)) + 1)
    raise DataError(
        f"{groups} group{'s' if groups != 1 else ''} for training and validation are too few",
        expected=f"at least {needed} groups for --val-ratio {ratio:g}",
        found=f"{groups}",
        next_step="set --val-ratio nearer to 0.5, add a val/ folder, or set --val-ratio None",
    )


def choose_groups(counts: np.ndarray, number: int, seed: int, classes: list[str]) -> np.ndarray:
    """Choose the validation groups.

    Args:
        counts: (G, C) int64, images of each class in each group.
        number: groups to choose, 1 to G - 1.
        seed: seed of the draws.
        classes: C names, for messages.

    Returns:
        (G,) bool, True for validation groups. Fewer than `number` if more would leave a class without training images.

    Raises:
        DataError: every choice leaves a class without training images.
    """
    random = np.random.default_rng([seed])
    best, best_cost = None, math.inf
    for _ in range(DRAWS):
        chosen = _return_last_groups(counts, _draw_groups(counts, number, random))
        if chosen.any() and (cost := _imbalance(counts, chosen, number)) < best_cost:
            best, best_cost = chosen, cost
    if best is None:
        in_one = [name for name, holders in zip(classes, (counts > 0).sum(axis=0), strict=True) if holders == 1]
        raise DataError(
            "no group can validate: each holds a class that no other group has",
            expected="classes that occur in at least two groups",
            found=f"in one group only: {format_list(in_one)}",
            next_step="add a val/ folder, or set --val-ratio None",
        )
    return _swap_groups(counts, best) if len(counts) in _GROUPS_TO_IMPROVE else best


def _draw_groups(counts: np.ndarray, number: int, random: np.random.Generator) -> np.ndarray:
    """Draw groups, (G,) bool: nearly the same share of the groups of each most frequent class."""
    main = counts.argmax(axis=1)
    sizes = np.bincount(main, minlength=counts.shape[1])
    quota = sizes * (number / len(counts))
    takes = np.minimum(np.floor(quota).astype(np.int64), np.maximum(sizes - 1, 0))
    # Largest-remainder method, ties in random order. The last group of a class is drawn only if no other is left.
    order = np.lexsort((random.random(len(sizes)), -(quota - np.floor(quota))))
    for spare in (1, 0):
        for label in order:
            if takes.sum() < number and takes[label] < sizes[label] - spare:
                takes[label] += 1
    while takes.sum() < number:
        takes[np.argmax(sizes - takes)] += 1
    shuffled = random.permutation(len(counts))
    chosen = np.empty(len(counts), dtype=bool)
    chosen[shuffled] = occurrences_before(main[shuffled]) < takes[main[shuffled]]
    return chosen


def _return_last_groups(counts: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Return groups to training until no class is without training images."""
    chosen = chosen.copy()
    remaining = counts[~chosen].sum(axis=0)
    while len(emptied := np.flatnonzero((remaining == 0) & (counts.sum(axis=0) > 0))):
        holders = np.flatnonzero(chosen & (counts[:, emptied[0]] > 0))
        smallest = holders[np.argmin(counts[holders].sum(axis=1))]
        chosen[smallest] = False
        remaining = remaining + counts[smallest]
    return chosen


def _imbalance(counts: np.ndarray, chosen: np.ndarray, number: int) -> float:
    """Pearson's chi-squared statistic of the chosen images per class against their expected share, at least 0."""
    totals = counts.sum(axis=0)
    expected = totals * (number / len(counts))
    return float((((counts[chosen].sum(axis=0) - expected) ** 2) / np.maximum(totals, 1)).sum())


def _swap_groups(counts: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Swap one chosen group for another while that lowers the imbalance and every class stays in training."""
    totals = np.maximum(counts.sum(axis=0), 1)
    scaled = counts / np.sqrt(totals)
    target = totals * (chosen.sum() / len(counts)) / np.sqrt(totals)
    chosen = chosen.copy()
    for _ in range(_MOST_SWAPS):
        inside, outside = np.flatnonzero(chosen), np.flatnonzero(~chosen)
        gap = scaled[inside].sum(axis=0) - target
        leaves, enters = scaled[inside], scaled[outside]
        # |gap - leaves + enters|² - |gap|² for each pair, expanded to avoid an array with a third axis.
        change = (leaves**2).sum(axis=1)[:, None] - 2 * (leaves @ gap)[:, None] + (enters**2).sum(axis=1)
        change = change + 2 * (enters @ gap) - 2 * leaves @ enters.T
        first, second = np.unravel_index(np.argmin(change), change.shape)
        swapped = chosen.copy()
        swapped[inside[first]], swapped[outside[second]] = False, True
        if change[first, second] > -1e-9 or not counts[~swapped].sum(axis=0)[counts.sum(axis=0) > 0].all():
            break
        chosen = swapped
    return chosen
