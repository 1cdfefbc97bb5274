"""Task arithmetic: the start plus a multiple of the sum of all task vectors."""

from collections.abc import Sequence

from soups.recipes.shared.pool import Judge, OnDecision, Pool, Soup
from soups.recipes.shared.sweep import SCALES, values_to_try
from soups.recipes.shared.task_vectors import TaskVectors, mean_task


def task_arithmetic(
    pool: Pool,
    judge: Judge | None,
    *,
    on_decision: OnDecision | None = None,
    scale: float | None = None,
    scales: Sequence[float] | None = None,
) -> Soup:
    """Return start + scale · Σ (model - start) (Ilharco et al. 2023, arXiv:2212.04089, section 2, "addition").

    One deviation: the paper sweeps 0, 0.05 … 1 for sums of up to eight *different* tasks. The models of a pool learnt
    the same task and have similar task vectors, so the sum grows with their number N; here scale · N is swept over 0,
    0.25 … 2. That includes 1 / N, the uniform soup, which is tried first: the first wins ties.

    In memory at a time: the mean task vector and one candidate, in float32.

    Args:
        pool: the ingredients, in any order, and their start.
        judge: judges each candidate soup; may be None if scale is given.
        on_decision: called with each decision (`scale=0.25`; `accepted` says that it took the lead).
        scale: fixed multiple (the paper's λ) of the sum instead of a sweep.
        scales: values to try; of equal scores the first wins.

    Raises:
        UsageError: a scale that is not finite.
        DataError: the pool has no start, or models do not fit or hold NaN or infinity; names model and tensor.
    """
    number = len(pool.ingredients)
    tried = values_to_try("task_arithmetic: scale", scale, scales or [value / number for value in SCALES])
    vectors = TaskVectors(pool, "task_arithmetic")
    direction = vectors.merge_chunks(mean_task)
    return vectors.best_soup_along("scale", tried, direction, judge, on_decision, unit=float(number))
