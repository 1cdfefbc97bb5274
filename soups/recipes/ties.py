"""TIES: small changes are dropped, and where models disagree about a sign, the heavier side alone is averaged."""

from collections.abc import Sequence
from itertools import groupby
from typing import TYPE_CHECKING

import numpy as np

from soups.recipes.pool import Judge, OnDecision, Pool, Soup
from soups.recipes.sweep import SCALES, in_range, swept_values
from soups.recipes.task_vectors import TaskVectors

if TYPE_CHECKING:
    import torch


def ties(
    pool: Pool,
    judge: Judge,
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

    In memory at a time: the start, one ingredient or candidate, a float64 sum, and signs and counts (3 bytes a
    number). The ingredients are read three times.

    Args:
        pool: the ingredients, in any order, and their start.
        judge: weighs each candidate soup.
        on_decision: called with each decision (`scale=0.5`; `accepted` says that it took the lead).
        density: share of each task vector that stays, in (0, 1]; the paper's 0.2.
        scale: fixed instead of a sweep.
        scales: those to try; ties go to the first.

    Raises:
        UsageError: density or scale out of range.
        DataError: the pool has no start, or models do not fit or hold NaN; names model and tensor.
    """
    in_range("ties: density", density, 0, 1, low_open=True)
    tried = swept_values("ties: scale", scale, scales)
    vectors = TaskVectors(pool, "ties")
    direction = elected_mean(vectors, density)
    return vectors.soup_along("ties", "scale", tried, direction, judge, on_decision, options={"density": density})


def elected_mean(vectors: TaskVectors, density: float) -> "dict[str, torch.Tensor]":
    """The merged task vector of TIES in float64: trimmed, with an elected sign, averaged over those that have it."""
    import torch

    thresholds = {} if density == 1 else _thresholds(vectors, density)

    def trimmed(name: str, tensor: "torch.Tensor") -> "torch.Tensor":
        return tensor.masked_fill_(tensor.abs() < thresholds[name], 0.0) if thresholds else tensor

    total: dict[str, torch.Tensor] = {}
    for ingredient, key, tensor in vectors:
        tensor = trimmed(ingredient.name, tensor)
        total[key] = total[key].add_(tensor) if key in total else tensor
    signs = {key: total.pop(key).sign().to(torch.int8) for key in tuple(total)}
    counts = {key: torch.zeros(sign.shape, dtype=torch.int16) for key, sign in signs.items()}
    for ingredient, key, tensor in vectors:
        tensor = trimmed(ingredient.name, tensor)
        agrees = tensor.sign().to(torch.int8) == signs[key]
        counts[key].add_(agrees)
        tensor.masked_fill_(~agrees, 0.0)
        total[key] = total[key].add_(tensor) if key in total else tensor
    for key, tensor in total.items():
        tensor.div_(counts[key].clamp_(min=1))
    return total


def _thresholds(vectors: TaskVectors, density: float) -> dict[str, float]:
    """The smallest magnitude that stays, of each ingredient, over all its tensors."""
    numbers = sum(tensor.numel() for tensor in vectors.start.values() if tensor.is_floating_point())
    stays = max(1, round(density * numbers))
    thresholds = {}
    for name, tensors in groupby(vectors, key=lambda item: item[0].name):
        magnitudes, filled = np.empty(numbers), 0
        for _, _, tensor in tensors:
            magnitudes[filled : filled + tensor.numel()] = tensor.abs_().flatten().numpy()
            filled += tensor.numel()
        magnitudes.partition(numbers - stays)
        thresholds[name] = float(magnitudes[numbers - stays])
    return thresholds
