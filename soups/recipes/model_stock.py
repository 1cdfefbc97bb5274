"""Model Stock: as far from the start towards the mean as the models agree, tensor by tensor."""

from typing import TYPE_CHECKING

from soups.errors import DataError
from soups.recipes.pool import Judge, OnDecision, Pool, Soup
from soups.recipes.sweep import judged_once
from soups.recipes.task_vectors import TaskVectors

if TYPE_CHECKING:
    import torch


def model_stock(pool: Pool, judge: Judge, *, on_decision: OnDecision | None = None) -> Soup:
    """Move each tensor by a ratio from the angle between task vectors (Jang et al. 2024, arXiv:2403.19522).

    For N models: w = t · mean + (1 - t) · start with t = N cos θ / (1 + (N - 1) cos θ), for two models
    2 cos θ / (1 + cos θ). cos θ is, for each tensor of the state by itself, the mean of the cosines of all
    N (N - 1) / 2 pairs of task vectors.

    Where the paper is silent, or we differ: the paper takes all pairs to be at one angle, here the pairs' cosines are
    averaged (with the task vectors' lengths left out); every floating-point tensor counts as a layer,
    flattened, 1-D ones too; of a tensor of a single number the angle says nothing, so it is averaged
    (t = 1). A task tensor of zeros has
    cosine 0 with all others. Where models disagree (cos θ <= 0) t is 0, the start, rather than beyond it. The
    paper's merging now and then during training is not done: the models are finished.

    In memory at a time: the start, one ingredient or the result, and one float64 sum. The ingredients are read twice.

    Args:
        pool: two ingredients or more, in any order, and their start.
        judge: weighs the finished soup.
        on_decision: called once, with the finished soup's result.

    Raises:
        DataError: fewer than two models, no start, or models do not fit or hold NaN; names model and tensor.
    """
    number = len(pool.ingredients)
    if number < 2:
        raise DataError(
            "model_stock: the angle between models needs two of them",
            expected="2 models or more",
            found=str(number),
            next_step="fine-tune another, or use wise_ft",
        )
    vectors = TaskVectors(pool, "model_stock")
    ratios = stock_ratios(vectors)
    direction = vectors.mean()
    for key, tensor in direction.items():
        tensor.mul_(ratios[key])
    state = vectors.moved(direction)
    best_single = max(ingredient.score for ingredient in vectors.ingredients)
    once = judged_once("all", state, judge, on_decision, best_single)
    return Soup(
        recipe="model_stock",
        state=state,
        ingredients=vectors.ingredients,
        coefficients=(1 / number,) * number,
        score=once.score,
        decisions=once.decisions,
        summary=f"{number} models, each tensor moved from the start by {min(ratios.values()):.2f} to "
        f"{max(ratios.values()):.2f} of the way to their mean",
    )


def stock_ratios(vectors: TaskVectors) -> dict[str, float]:
    """t of each tensor, in [0, 1], from one reading of the ingredients.

    The sum of the cosines of all ordered pairs is the squared length of the sum of unit vectors, less those of each
    with itself; so one float64 sum is enough.
    """
    number = len(vectors.ingredients)
    units: dict[str, torch.Tensor] = {}
    nonzero: dict[str, int] = {}
    for _, key, tensor in vectors:
        length = float(tensor.norm())
        unit = tensor / length if length > 0 else tensor
        if key in units:
            units[key].add_(unit)
        else:
            units[key] = unit
        nonzero[key] = nonzero.get(key, 0) + (length > 0)
    ratios = {}
    for key, total in units.items():
        cosine = (float(total.square().sum()) - nonzero[key]) / (number * (number - 1))
        cosine = min(cosine, 1.0)
        ratios[key] = number * cosine / (1 + (number - 1) * cosine) if cosine > 0 else 0.0
        if total.numel() == 1:
            ratios[key] = 1.0
    return ratios
