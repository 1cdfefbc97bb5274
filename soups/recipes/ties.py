"""TIES: drops small changes, and where models disagree about a sign, averages only the heavier side."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from soups.recipes.shared.pool import Judge, OnDecision, Pool, Soup
from soups.recipes.shared.sweep import SCALES, check_range, values_to_try
from soups.recipes.shared.task_vectors import TaskVectors

if TYPE_CHECKING:
    import torch

_BINS = 1 << 16
_MAX_IN_MEMORY = 1 << 20
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

    Trim: of each whole task vector, the fraction `density` with the largest magnitude stays (and values equal to the
    smallest of those, as in the authors' code); the rest becomes 0. Elect: the sign of the sum. Merge: the mean of the
    values with that sign, zeros not counted. Then start + scale · merged.

    Deviations: scale (the paper's λ) is swept over 0, 0.25 … 2 by validation, 1 (the paper's choice without
    validation) first, and the first wins ties. Where the sum is exactly 0 the value is 0, as in the paper's formula;
    the authors' code takes the sign of the majority there.

    In memory at a time: the merged task vector and one candidate, in float32. The ingredients are read three times,
    or up to five times if very many of their numbers are close to the smallest that stays.

    Args:
        pool: the ingredients, in any order, and their start.
        judge: judges each candidate soup; may be None if scale is given.
        on_decision: called with each decision (`scale=0.5`; `accepted` says that it took the lead).
        density: fraction of each task vector that stays, in (0, 1]; the paper's 0.2.
        scale: fixed scale instead of a sweep.
        scales: values to try; of equal scores the first wins.

    Raises:
        UsageError: density or scale out of range.
        DataError: the pool has no start, or models do not fit or hold NaN or infinity; names model and tensor.
    """
    check_range("ties: density", density, "(0, 1]")
    tried = values_to_try("ties: scale", scale, scales)
    vectors = TaskVectors(pool, "ties")
    direction = elect_and_average(vectors, density)
    return vectors.best_soup_along("scale", tried, direction, judge, on_decision, options={"density": density})


def elect_and_average(vectors: TaskVectors, density: float) -> "dict[str, torch.Tensor]":
    """Return the merged task vector of TIES: trimmed, with an elected sign, averaged over the values that have it."""
    import torch

    thresholds = [0.0] * len(vectors.ingredients) if density == 1 else _thresholds(vectors, density)
    # hardshrink zeroes values up to its limit: the largest number below the smallest that stays.
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

    return vectors.merge_chunks(elected)


def _thresholds(vectors: TaskVectors, density: float) -> list[float]:
    """Return the smallest magnitude that stays of each ingredient in canonical order, over all its tensors."""
    remaining = max(1, round(density * sum(vectors.start[key].numel() for key in vectors.keys)))

    def magnitudes(position: int) -> "Iterator[np.ndarray]":
        for key in vectors.keys:
            for _, (task,) in vectors.chunks(key, [position]):
                yield task.abs_().numpy()

    return [nth_largest(partial(magnitudes, position), remaining) for position in range(len(vectors.ingredients))]


def nth_largest(read: "Callable[[], Iterable[np.ndarray]]", rank: int) -> float:
    """Return the exact number of a rank, 1 for the largest, without all numbers in memory.

    Bit patterns of non-negative floats have the order of the floats, so the number is found 16 bits at a time by
    counting. The numbers are read twice, or up to four times if very many lie close to it.

    Args:
        read: returns all numbers anew at each call: (K,) float64 arrays of non-negative numbers.
        rank: from 1 to how many numbers there are.
    """
    prefix = 0  # The bits above `shift`.
    for shift in (48, 32, 16, 0):
        counts = np.zeros(_BINS, dtype=np.int64)
        for numbers in read():
            bits = numbers.view(np.int64) >> shift
            close = bits if shift == 48 else bits[bits >> 16 == prefix]
            counts += np.bincount(close & (_BINS - 1), minlength=_BINS)
        above = np.cumsum(counts[::-1])[::-1] - counts
        digit = int(np.flatnonzero(above < rank)[0])
        prefix, rank = prefix << 16 | digit, rank - int(above[digit])
        if counts[digit] <= _MAX_IN_MEMORY and shift > 0:
            left = np.concatenate([numbers[numbers.view(np.int64) >> shift == prefix] for numbers in read()])
            left.partition(len(left) - rank)
            return float(left[len(left) - rank])
    return float(np.array(prefix).view(np.float64))
