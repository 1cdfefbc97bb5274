"""The setting `--limit`: which images of each set a quick trial uses, in the proportions of classes and groups."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from soups.core.errors import UsageError
from soups.core.notes import add_note
from soups.data.layouts.image_files import format_list

if TYPE_CHECKING:
    import pandas as pd


def select_limited_rows(samples: "pd.DataFrame", limit: int, seed: int) -> np.ndarray:
    """Select the rows of the table that a limited run uses.

    From each set with more than `limit` images, `limit` are drawn: each class in proportion, rounded, but at least one
    image, and within a class each group in proportion, so that as many groups as possible remain (confidence intervals
    resample groups). No image changes its set. The draw depends on the images' names, not on the order of the rows. For
    training and validation it depends on the seed; test and shift sets are equal for all seeds, and a shift set derived
    from the test images has the same images.

    Args:
        samples: text columns `image`, `label`, `group` and `split`; no `split` is "".
        limit: maximum number of images per set.
        seed: seed of the split.

    Returns:
        (R,) bool, True for rows in use.

    Raises:
        UsageError: the limit is below the number of classes in training.
    """
    keep = np.ones(len(samples), dtype=bool)
    counts = []
    for split, rows in samples.groupby("split"):
        classes = rows["label"].nunique()
        if split == "train" and limit < classes:
            raise UsageError(f"--limit {limit}: too few training images", expected=f"{classes}, one of each class")
        if len(rows) > limit:
            positions = np.flatnonzero((samples["split"] == split).to_numpy())
            positions = positions[np.argsort(rows["image"].to_numpy(dtype=str), kind="stable")]
            labels, groups = (samples[name].to_numpy(dtype=str)[positions] for name in ("label", "group"))
            random = np.random.default_rng([seed if split in ("train", "val") else 0])
            keep[positions] = _draw_rows(labels, groups, limit, random)
        used = samples.loc[keep & (samples["split"] == split).to_numpy(), "label"].value_counts(sort=False)
        of_class = format_list([f"{count:,} {label}" for label, count in sorted(used.items()) if label], 5)
        counts.append(f"{split} {min(len(rows), limit):,} of {len(rows):,}" + (f" ({of_class})" if of_class else ""))
    add_note("changed", f"--limit {limit}: uses {', '.join(counts)} images")
    return keep


def _draw_rows(labels: np.ndarray, groups: np.ndarray, count: int, random: np.random.Generator) -> np.ndarray:
    """Draw `count` of N rows in the proportions of classes and groups: (N,) bool."""
    classes, class_of = np.unique(labels, return_inverse=True)
    drawn = np.zeros(len(labels), dtype=bool)
    for index, take in enumerate(proportional_counts(np.bincount(class_of, minlength=len(classes)), count)):
        rows = np.flatnonzero(class_of == index)
        drawn[rows[np.argsort(_systematic_ranks(groups[rows], random), kind="stable")[:take]]] = True
    return drawn


def _systematic_ranks(groups: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Return (N,) float64 ranks; any k rows of lowest rank contain nearly the same share of each group.

    Systematic sampling: the shuffled rows of a group have ranks at equal distances from a random start.
    """
    _, group_of, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    shuffled = random.permutation(len(groups))
    rank_in_group = np.empty(len(groups), dtype=np.int64)
    rank_in_group[shuffled] = occurrences_before(group_of[shuffled])
    return (rank_in_group + random.random(len(sizes))[group_of]) / sizes[group_of]


def occurrences_before(values: np.ndarray) -> np.ndarray:
    """Return for each of K values the number of equal values before it, (K,) int64."""
    import pandas as pd

    return pd.Series(values).groupby(values).cumcount().to_numpy()


def proportional_counts(sizes: Sequence[int] | np.ndarray, count: int) -> np.ndarray:
    """Divide `count` in proportion to sizes by the largest-remainder method.

    No part exceeds its size. Each is at least one if `count` is at least C. Ties go to the lowest index.

    Args:
        sizes: C whole numbers above zero.
        count: from 0 to the sum of sizes.

    Returns:
        (C,) int64, summing to `count`.
    """
    sizes = np.asarray(sizes, dtype=np.int64)
    quota = sizes * (count / sizes.sum())
    least = 1 if count >= len(sizes) else 0
    taken = np.minimum(np.maximum(np.floor(quota).astype(np.int64), least), sizes)
    while taken.sum() != count:
        missing = int(np.sign(count - taken.sum()))
        allowed = taken < sizes if missing > 0 else taken > least
        taken[np.argmax(np.where(allowed, missing * (quota - taken), -np.inf))] += missing
    return taken
