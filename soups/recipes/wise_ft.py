"""WiSE-FT: the best point between the start and the uniform soup."""

from collections.abc import Sequence

from soups.recipes.shared.pool import Judge, OnDecision, Pool, Soup
from soups.recipes.shared.sweep import check_range, values_to_try
from soups.recipes.shared.task_vectors import TaskVectors, mean_task

ALPHAS = tuple(step / 10 for step in range(10, -1, -1))
"""1, 0.9 … 0, in the order in which they are tried."""


def wise_ft(
    pool: Pool,
    judge: Judge | None,
    *,
    on_decision: OnDecision | None = None,
    alpha: float | None = None,
    alphas: Sequence[float] = ALPHAS,
) -> Soup:
    """Interpolate between start and fine-tune (Wortsman et al. 2022, arXiv:2109.01903, weight-space ensembling).

    (1 - alpha) · start + alpha · fine-tuned, where the fine-tuned model is the mean of the pool (the paper's own for a
    pool of one). The paper recommends alpha = 0.5 without data of the target domain, and shows the whole curve; here
    the best alpha by validation wins, and of equal scores the largest, which is tried first.

    In memory at a time: the mean task vector and one candidate, in float32.

    Args:
        pool: the ingredients, in any order, and their start.
        judge: judges each candidate soup; may be None if alpha is given.
        on_decision: called with each decision (`alpha=0.3`; `accepted` says that it took the lead): the curve.
        alpha: fixed coefficient of the fine-tuned models, in [0, 1], instead of a sweep.
        alphas: values to try, in [0, 1]; of equal scores the first wins.

    Raises:
        UsageError: an alpha out of range.
        DataError: the pool has no start, or models do not fit or hold NaN or infinity; names model and tensor.
    """
    tried = values_to_try("wise_ft: alpha", alpha, alphas)
    for value in tried:
        check_range("wise_ft: alpha", value, "[0, 1]")
    vectors = TaskVectors(pool, "wise_ft")
    direction = vectors.merge_chunks(mean_task)
    # Judged on all images, because the scores are points of the figure's curve.
    return vectors.best_soup_along("alpha", tried, direction, judge, on_decision, judge_fully=True)
