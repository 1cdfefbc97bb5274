"""TIES: small changes are dropped, and where models disagree about a sign, the heavier side alone is averaged."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from soups.recipes.shared.pool import Judge, OnDecision, Pool, Soup
from soups.recipes.shared.sweep import SCALES, check_range, swept_values
from soups.recipes.shared.task_vectors import TaskVectors

if TYPE_CHECKING:
    import torch

_BINS = 1 << 16
_FEW = 1 << 20
"""Numbers that may be in memory at once: 8 MiB."""


def ties(
    pool: Pool,
    judge: Judge | None,
    *,
    on_decision: OnDecision | None = None,
    density: float = 0.2,
    scale: float | None = None,
    scales: Sequence[float] = SCALES,
) -> Soup:
    """Trim, elect sign, disjoint mean (Yadav et al. 2023, arXiv:2306.01708, Algorithm 1).

    Trim: of each whole task vector the share `density` of largest magnitude stays (equals of the smallest that stays,
    too, as in the authors' code), the rest is 0. Elect: the sign of the sum. Merge: the mean of the values with that
    sign, zeros not counted. Then start + scale · merged.

    Deviations: scale (the paper's λ) is swept over 0, 0.25 … 2 by validation, 1 (the paper's choice without
    validation) first, and the first wins ties. Where the sum is exactly 0 the value is 0, as the paper's formula says;
    the authors' code takes the sign of the majority there.

    In memory at a time: the merged task vector and one candidate, in float32. The ingredients are read three times,
    or up to five times where very many of their numbers are close to the smallest that stays.

    Args:
        pool: the ingredients, in any order, and their start.
        judge: weighs each candidate soup; may be None where scale is given.
        on_decision: called with each decision (`scale=0.5`; `accepted` says that it took the lead).
        density: share of each task vector that stays, in (0, 1]; the paper's 0.2.
        scale: fixed instead of a sweep.
        scales: those to try; ties go to the first.

    Raises:
        UsageError: density or scale out of range.
        DataError: the pool has no start, or models do not fit or hold NaN or infinity; names model and tensor.
    """
    check_range("ties: density", density, 0, 1, low_open=True)
    tried = swept_values("ties: scale", scale, scales)
    vectors = TaskVectors(pool, "ties")
    direction = elect_and_average(vectors, density)
    return vectors.soup_along("ties", "scale", tried, direction, judge, on_decision, options={"density": density})


def elect_and_average(vectors: TaskVectors, density: float) -> "dict[str, torch.Tensor]":
    """The merged task vector of TIES: trimmed, with an elected sign, averaged over those that have it."""
    import torch

    thresholds = [0.0] * len(vectors.ingredients) if density == 1 else _thresholds(vectors, density)
    # What is at most so large goes: the number right below the smallest that stays.
    limits = [float(np.nextafter(threshold, 0.0)) for threshold in thresholds]

    def elected(tasks: "list[torch.Tensor]") -> "torch.Tensor":
        tasks = [
            torch.nn.functional.hardshrink(task, limit) if limit > 0 else task
            for task, limit in zip(tasks, limits, strict=True)
        ]
        sign = sum(tasks[1:], tasks[0]).sign()
        total, count = torch.zeros_like(sign), torch.zeros_like(sign)
        for task in tasks:
            agreeing = task.mul_(sign).relu_()  # Its magnitude where it has the sign, else 0.
            total.add_(agreeing)
            count.add_(agreeing.sign_())
        return total.mul_(sign).div_(count.clamp_(min=1))

    return vectors.merged(elected)


def _thresholds(vectors: TaskVectors, density: float) -> list[float]:
    """The smallest magnitude that stays, of each ingredient in canonical order, over all its tensors."""
    stays = max(1, round(density * sum(vectors.start[key].numel() for key in vectors.keys)))

    def magnitudes(position: int) -> "Iterator[np.ndarray]":
        return (task.abs_().numpy() for task in vectors.pieces_of_one(position))

    return [nth_largest(partial(magnitudes, position), stays) for position in range(len(vectors.ingredients))]


def nth_largest(read: "Callable[[], Iterable[np.ndarray]]", rank: int) -> float:
    """The number that has so many numbers at or before it when the largest comes first: exact, whatever they are.

    Numbers that are not negative are ordered as their bits are, so it is found sixteen bits at a time, by counting.
    The numbers are read twice, or up to four times where very many lie close to it; they are never all in memory.

    Args:
        read: gives all numbers anew at each call: (K,) float64 arrays of numbers that are not negative.
        rank: 1 for the largest, at most their number.
    """
    known = 0  # The bits above `shift`.
    for shift in (48, 32, 16, 0):
        counts = np.zeros(_BINS, dtype=np.int64)
        for numbers in read():
            bits = numbers.view(np.int64) >> shift
            close = bits if shift == 48 else bits[bits >> 16 == known]
            counts += np.bincount(close & (_BINS - 1), minlength=_BINS)
        above = np.cumsum(counts[::-1])[::-1] - counts
        digit = int(np.flatnonzero(above < rank)[0])
        known, rank = known << 16 | digit, rank - int(above[digit])
        if counts[digit] <= _FEW and shift > 0:
            left = np.concatenate([numbers[numbers.view(np.int64) >> shift == known] for numbers in read()])
            left.partition(len(left) - rank)
            return float(left[len(left) - rank])
    return float(np.array(known).view(np.float64))
