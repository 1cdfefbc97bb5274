"""A first look: at most so many images of each set, the classes and groups in their proportions."""

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from soups.core.errors import UsageError

if TYPE_CHECKING:
    import pandas as pd

logger = logging.getLogger(__name__)


def select_limited_rows(samples: "pd.DataFrame", limit: int, seed: int) -> np.ndarray:
    """Which rows of the table a limited run uses: (R,) bool.

    Of each set with more than `limit` images so many are drawn: each class gives its share, to the nearest image but at
    least one, and within a class each group gives its share, so that all groups stay as long as there is room (a set of
    few whole groups would tell less and have no honest interval). Nobody changes sides. What is drawn depends on the
    images' names, not on the order of the rows. Of training and validation images it depends on the seed; test and
    shift sets are the same for every seed, and a shift set that is made of the test images keeps the same ones.

    Args:
        samples: text columns `image`, `label`, `group` and `split`, which is decided.
        limit: images of a set at the most.
        seed: of the split.

    Raises:
        UsageError: fewer training images than classes.
    """
    keep = np.ones(len(samples), dtype=bool)
    told = []
    for split, rows in samples.groupby("split"):
        labels = rows["label"].to_numpy(dtype=str)
        classes = len(set(labels))
        if split == "train" and limit < min(classes, len(rows)):
            raise UsageError(f"--limit {limit}: too few training images", expected=f"{classes}, one of each class")
        if len(rows) > limit:
            order = np.argsort(rows["image"].to_numpy(dtype=str), kind="stable")
            places = np.flatnonzero((samples["split"] == split).to_numpy())[order]
            keep[places] = _draw_rows(
                labels[order],
                rows["group"].to_numpy(dtype=str)[order],
                limit,
                np.random.default_rng([seed if split in ("train", "val") else 0]),
            )
        told.append(f"{split} {min(len(rows), limit):,} of {len(rows):,}")
    logger.info("--limit %d: %s images", limit, ", ".join(told))
    return keep


def _draw_rows(labels: np.ndarray, groups: np.ndarray, count: int, random: np.random.Generator) -> np.ndarray:
    """`count` of N rows: (N,) bool."""
    classes, class_of = np.unique(labels, return_inverse=True)
    drawn = np.zeros(len(labels), dtype=bool)
    for index, take in enumerate(proportional_counts(np.bincount(class_of, minlength=len(classes)), count)):
        rows = np.flatnonzero(class_of == index)
        drawn[rows[np.argsort(_systematic_ranks(groups[rows], random), kind="stable")[:take]]] = True
    return drawn


def _systematic_ranks(groups: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """(N,) float64: taking rows in rising order, each group has given nearly the same share of its rows at any time.

    Systematic sampling: a group's rows, shuffled, have their turns at equal distances after a start drawn for it.
    """
    _, group_of, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    shuffled = random.permutation(len(groups))
    by_group = shuffled[np.argsort(group_of[shuffled], kind="stable")]
    place = np.empty(len(groups), dtype=np.int64)
    place[by_group] = np.arange(len(groups)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return (place + random.random(len(sizes))[group_of]) / sizes[group_of]


def proportional_counts(sizes: Sequence[int] | np.ndarray, count: int) -> np.ndarray:
    """`count` dealt out in proportion to sizes, in whole numbers: (C,) int64, summing to `count`.

    Nobody gets more than its size. Where there are enough, everybody gets at least one; largest remainders get the
    rest, the first of equal ones.

    Args:
        sizes: C whole numbers above zero.
        count: from 0 to their sum.
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
