"""Model Stock: moves each tensor from the start towards the mean, the further the more the models agree."""

import math

from soups.core.errors import DataError
from soups.recipes.shared.pool import Judge, OnDecision, Pool, Soup, equal_soup
from soups.recipes.shared.sweep import judge_finished
from soups.recipes.shared.task_vectors import TaskVectors, mean_task


def model_stock(pool: Pool, judge: Judge | None, *, on_decision: OnDecision | None = None) -> Soup:
    """Move each tensor by a ratio from the angle between task vectors (Jang et al. 2024, arXiv:2403.19522).

    For N models: w = t · mean + (1 - t) · start with t = N cos θ / (1 + (N - 1) cos θ), for two models
    2 cos θ / (1 + cos θ). cos θ is, for each tensor of the state by itself, the mean of the cosines of all
    N (N - 1) / 2 pairs of task vectors.

    Deviations and choices that the paper leaves open: the paper takes one angle for all pairs, here the pairs' cosines
    are averaged (without the task vectors' lengths); every floating-point tensor counts as a layer, flattened, 1-D ones
    too; a tensor of a single number has no angle and is averaged (t = 1). A task tensor of zeros has cosine 0 with all
    others. If the models disagree (cos θ <= 0), t is 0, the start. The paper's periodic merging during training is not
    done, because the models are finished.

    In memory at a time: the mean task vector and the soup, in float32. The ingredients are read three times.

    Args:
        pool: two ingredients or more, in any order, and their start.
        judge: judges the finished soup; None leaves its score open.
        on_decision: called once, with the finished soup's result.

    Raises:
        DataError: fewer than two models, no start, or models do not fit or hold NaN or infinity; names model and
            tensor.
    """
    number = len(pool.ingredients)
    if number < 2:
        raise DataError(
            "model_stock: the number of models",
            expected="2 models or more",
            found=str(number),
            next_step="fine-tune another model, or use wise_ft",
        )
    vectors = TaskVectors(pool, "model_stock")
    ratios = {key: stock_ratio(vectors, key) for key in vectors.keys}
    direction = vectors.merge_chunks(mean_task)
    for key, tensor in direction.items():
        tensor.mul_(ratios[key])
    summary = (
        f"{number} models, each tensor moved from the start by {min(ratios.values()):.2f} to "
        f"{max(ratios.values()):.2f} of the way to their mean"
    )
    soup = equal_soup("model_stock", vectors.ingredients, summary, state=vectors.add_to_start(direction))
    return judge_finished(soup, judge, on_decision)


def stock_ratio(vectors: TaskVectors, key: str) -> float:
    """Return the ratio t of a tensor, in [0, 1].

    The sum of the cosines of all ordered pairs is the squared length of the sum of unit vectors, minus one for each
    unit vector.
    """
    number = len(vectors.ingredients)
    if vectors.start[key].numel() == 1:
        return 1.0
    squares = [0.0] * number
    for _, tasks in vectors.chunks(key):
        squares = [square + float(task.square_().sum()) for square, task in zip(squares, tasks, strict=True)]
    lengths = [math.sqrt(square) for square in squares]
    square_of_sum = 0.0
    for _, tasks in vectors.chunks(key):
        units = [task.div_(length) for task, length in zip(tasks, lengths, strict=True) if length > 0]
        square_of_sum += float(sum(units[1:], units[0]).square_().sum()) if units else 0.0
    cosine = min((square_of_sum - sum(length > 0 for length in lengths)) / (number * (number - 1)), 1.0)
    return number * cosine / (1 + (number - 1) * cosine) if cosine > 0 else 0.0
