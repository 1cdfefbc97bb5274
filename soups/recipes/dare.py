"""DARE: drops most of each task vector at random, scales up the rest, and combines the task vectors."""

import hashlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np

from soups.core.errors import unknown_name
from soups.recipes.shared.pool import Ingredient, Judge, OnDecision, Pool, Soup
from soups.recipes.shared.sweep import SCALES, check_range, values_to_try
from soups.recipes.shared.task_vectors import TaskVectors, mean_task
from soups.recipes.ties import elect_and_average

if TYPE_CHECKING:
    import torch


def dare(
    pool: Pool,
    judge: Judge | None,
    *,
    on_decision: OnDecision | None = None,
    drop: float = 0.5,
    combine: Literal["linear", "ties"] = "linear",
    density: float = 1.0,
    seed: int = 0,
    scale: float | None = None,
    scales: Sequence[float] = SCALES,
) -> Soup:
    """Drop and rescale (DARE: Yu et al. 2024, arXiv:2311.03099).

    Each number of a task vector becomes 0 with probability `drop`, else it is divided by 1 - drop. The resulting
    vectors are averaged (`linear`) or merged as in TIES (`ties`), and start + scale · merged is the soup.

    Deviations: `drop` is 0.5, as the paper's 0.9 is for far larger models; "linear" is the mean rather than the sum, so
    that scale 1 is an unbiased estimate of the uniform soup; scale is swept over 0, 0.25 … 2 by validation, 1 first,
    and the first wins ties; TIES trims nothing after the drop unless `density` is below 1.

    The random numbers of a tensor depend on `seed`, the ingredient's hash and the tensor's name, and on no order.
    Memory and reads as in `ties`; `linear` reads the ingredients once.

    Args:
        pool: the ingredients, in any order, and their start.
        judge: judges each candidate soup; may be None if scale is given.
        on_decision: called with each decision (`scale=0.5`; `accepted` says that it took the lead).
        drop: probability that a number of a task vector is dropped, in [0, 1).
        combine: `linear` or `ties`.
        density: for `ties`: fraction of each dropped task vector that stays, in (0, 1].
        seed: of the random numbers.
        scale: fixed scale instead of a sweep.
        scales: values to try; of equal scores the first wins.

    Raises:
        UsageError: drop, density or scale out of range, or an unknown way to combine.
        DataError: the pool has no start, or models do not fit or hold NaN or infinity; names model and tensor.
    """
    check_range("dare: drop", drop, "[0, 1)")
    check_range("dare: density", density, "(0, 1]")
    if combine not in ("linear", "ties"):
        raise unknown_name("way to combine", combine, ("linear", "ties"))
    tried = values_to_try("dare: scale", scale, scales)

    def dropping(ingredient: Ingredient, key: str) -> "Callable[[torch.Tensor], torch.Tensor]":
        numbers = random_generator(seed, ingredient.sha256, key)

        def dropped(piece: "torch.Tensor") -> "torch.Tensor":
            import torch

            return piece.mul_(torch.from_numpy(numbers.random(len(piece)) >= drop)).div_(1 - drop)

        return dropped

    vectors = TaskVectors(pool, "dare", dropping)
    direction = vectors.merge_chunks(mean_task) if combine == "linear" else elect_and_average(vectors, density)
    options = {"drop": drop, "combine": combine, "density": density, "seed": seed}
    return vectors.best_soup_along("scale", tried, direction, judge, on_decision, options=options)


def random_generator(seed: int, sha256: str, key: str) -> np.random.Generator:
    """Return the random generator of one tensor of one ingredient: equal for equal arguments on every machine."""
    digest = hashlib.sha256(f"{seed}\n{sha256}\n{key}".encode()).digest()
    return np.random.default_rng(int.from_bytes(digest))
