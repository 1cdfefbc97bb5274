"""Who validates: whole groups, chosen so that the classes keep their proportions."""

import logging
import math
from typing import TYPE_CHECKING

import numpy as np

from soups.core.errors import DataError
from soups.data.layouts.folders import format_list

if TYPE_CHECKING:
    import pandas as pd

logger = logging.getLogger(__name__)

DRAWS = 20
_GROUPS_TO_IMPROVE = range(21, 5001)
_MOST_SWAPS = 200


def split_samples(samples: "pd.DataFrame", val_ratio: float | None, seed: int) -> "pd.DataFrame":
    """Decide `split` where it is "": "val" for a share of the groups, "train" for the others.

    Of G groups, `round(val_ratio · G)` validate, so the ratio is one of groups; which ones is drawn so that the images
    of each class come near to the same share. The groups are drawn class by class (each group counts for the class it
    has most of) `DRAWS` times and the draw nearest to the wanted shares is kept; with more than 20 groups, exchanges
    that bring it nearer follow. The result depends on the table and the seed, not on the order of the rows. Where there
    are "val" rows already, or `val_ratio` is None, all undecided rows train.

    scikit-learn's `StratifiedGroupKFold` knows only shares of 1/k, with at most as many folds as groups, hence our
    own.

    Args:
        samples: table with text columns `image`, `label`, `group`, `split`.
        val_ratio: in (0, 1), or None.
        seed: another seed draws other groups.

    Returns:
        A new table; rows and order as given.

    Raises:
        DataError: fewer groups than the ratio needs, or a class that would be left without training images.
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
    if absent := [str(name) for name, count in zip(classes, counts[validates].sum(axis=0), strict=True) if not count]:
        logger.warning("no validation images of: %s (their groups all train)", format_list(absent))
    samples.loc[undecided, "split"] = np.where(validates[group_of], "val", "train")
    return samples


def _validation_group_count(groups: int, ratio: float) -> int:
    wanted = math.floor(ratio * groups + 0.5)
    if 1 <= wanted <= groups - 1:
        return wanted
    needed = max(math.ceil(0.5 / ratio), math.floor(0.5 / (1 - ratio)) + 1)
    raise DataError(
        f"{groups} group{'s' if groups != 1 else ''} for training and validation are too few",
        expected=f"at least {needed} groups for --val-ratio {ratio:g}",
        found=f"{groups}",
        next_step="give a --val-ratio nearer to 0.5, a val/ folder, or --val-ratio None",
    )


def choose_groups(counts: np.ndarray, wanted: int, seed: int, classes: list[str]) -> np.ndarray:
    """Which groups validate: (G,) bool.

    Args:
        counts: (G, C) whole numbers, the images of each class in each group.
        wanted: how many groups to choose, 1 to G - 1.
        seed: of the draws.
        classes: C names, for messages.

    Raises:
        DataError: each choice would take all images of some class from training.
    """
    random = np.random.default_rng([seed])
    best, best_cost = None, math.inf
    for _ in range(DRAWS):
        chosen = _return_last_groups(counts, _draw_groups(counts, wanted, random))
        if chosen.any() and (cost := _imbalance(counts, chosen, wanted)) < best_cost:
            best, best_cost = chosen, cost
    if best is None:
        lone = [name for name, holders in zip(classes, (counts > 0).sum(axis=0), strict=True) if holders == 1]
        raise DataError(
            "no group can validate: each holds a class that no other group has",
            expected="classes that occur in at least two groups",
            found=f"in one group only: {format_list(lone)}",
            next_step="give a val/ folder, or --val-ratio None",
        )
    return _swap_groups(counts, best) if len(counts) in _GROUPS_TO_IMPROVE else best


def _draw_groups(counts: np.ndarray, wanted: int, random: np.random.Generator) -> np.ndarray:
    """Random groups, the same share of those of each main class, as near as whole numbers allow."""
    main = counts.argmax(axis=1)
    sizes = np.bincount(main, minlength=counts.shape[1])
    quota = sizes * (wanted / len(counts))
    takes = np.minimum(np.floor(quota).astype(np.int64), np.maximum(sizes - 1, 0))
    # Largest remainders get the rest; equal ones by lot. A class's last group is taken only when nothing else is left.
    order = np.lexsort((random.random(len(sizes)), -(quota - np.floor(quota))))
    for spare in (1, 0):
        for label in order:
            if takes.sum() < wanted and takes[label] < sizes[label] - spare:
                takes[label] += 1
    while takes.sum() < wanted:
        takes[np.argmax(sizes - takes)] += 1
    lots = random.permutation(len(counts))
    lots = lots[np.argsort(main[lots], kind="stable")]
    place_in_class = np.arange(len(lots)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    chosen = np.zeros(len(counts), dtype=bool)
    chosen[lots[place_in_class < takes[main[lots]]]] = True
    return chosen


def _return_last_groups(counts: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """The choice without groups that would leave a class with no training image."""
    chosen = chosen.copy()
    remaining = counts[~chosen].sum(axis=0)
    while len(emptied := np.flatnonzero((remaining == 0) & (counts.sum(axis=0) > 0))):
        holders = np.flatnonzero(chosen & (counts[:, emptied[0]] > 0))
        back = holders[np.argmin(counts[holders].sum(axis=1))]
        chosen[back] = False
        remaining = remaining + counts[back]
    return chosen


def _imbalance(counts: np.ndarray, chosen: np.ndarray, wanted: int) -> float:
    """How far the chosen images of each class are from their share: Pearson's statistic over the classes."""
    totals = counts.sum(axis=0)
    expected = totals * (wanted / len(counts))
    return float((((counts[chosen].sum(axis=0) - expected) ** 2) / np.maximum(totals, 1)).sum())


def _swap_groups(counts: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Exchange one chosen and one other group while that lowers the cost and empties no class."""
    totals = np.maximum(counts.sum(axis=0), 1)
    scaled = counts / np.sqrt(totals)
    target = totals * (chosen.sum() / len(counts)) / np.sqrt(totals)
    chosen = chosen.copy()
    for _ in range(_MOST_SWAPS):
        inside, outside = np.flatnonzero(chosen), np.flatnonzero(~chosen)
        gap = scaled[inside].sum(axis=0) - target
        leaves, enters = scaled[inside], scaled[outside]
        # |gap - leaves + enters|² - |gap|² for each pair, without holding a third axis in memory.
        change = (leaves**2).sum(axis=1)[:, None] - 2 * (leaves @ gap)[:, None] + (enters**2).sum(axis=1)
        change = change + 2 * (enters @ gap) - 2 * leaves @ enters.T
        first, second = np.unravel_index(np.argmin(change), change.shape)
        swapped = chosen.copy()
        swapped[inside[first]], swapped[outside[second]] = False, True
        if change[first, second] > -1e-9 or not counts[~swapped].sum(axis=0)[counts.sum(axis=0) > 0].all():
            break
        chosen = swapped
    return chosen
