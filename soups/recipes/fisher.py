"""Fisher merging: averages each weight, weighted by how much each model's predictions depend on it."""

import math
from typing import TYPE_CHECKING

from soups.core.errors import UsageError
from soups.recipes.shared.pool import GradientJudge, Ingredient, OnDecision, Pool, Soup, canonical_order
from soups.recipes.shared.sweep import check_range, judge_once
from soups.weights.state_dict import check_compatible, check_finite

if TYPE_CHECKING:
    import torch

    from soups.recipes.shared.pool import State


def fisher(
    pool: Pool,
    judge: GradientJudge,
    *,
    on_decision: OnDecision | None = None,
    floor: float = 1e-6,
    seed: int = 0,
) -> Soup:
    """Diagonal Fisher merging (Matena & Raffel 2022, arXiv:2111.09832, equation 4) with equal coefficients.

    Each weight becomes Σ F_i θ_i / Σ F_i, where F_i is that weight's own entry of the diagonal Fisher information of
    model i: the posterior mode if each model's posterior were normal with precision F_i.

    As in the paper's code, F_i is at least `floor` (1e-6). Deviations: the floor holds for all models, while the code's
    default favours the first; the models' Fishers are not scaled to one length, since models of one pool were trained
    on the same images; the head is merged like everything else, since the models share its classes; coefficients of the
    models are equal, not searched. F comes from validation images (see `evaluation.gradients`), without their labels.
    BatchNorm statistics are not parameters and are averaged with equal weights.

    In memory at a time, beside mapped ingredients: the network, one gradient, one Fisher, and numerator and denominator
    in float32: five models.

    Args:
        pool: the ingredients, in any order.
        judge: judges the soup and computes Fisher information.
        on_decision: called once, with the finished soup's result.
        floor: lower bound of F_i, above 0.
        seed: of the images and labels from which Fisher information is estimated, the same for every model.

    Returns:
        The soup; the coefficients are equal, as the weights are mixed number by number. Its `options` rebuild it with
        the same judge: images, precision and threads.

    Raises:
        UsageError: an option out of range.
        DataError: an ingredient does not fit the first, or holds NaN or infinity; names the ingredient and the tensor.
    """
    check_range("fisher: floor", floor, 0, math.inf, low_open=True, high_open=True)
    if seed < 0 or int(seed) != seed:
        raise UsageError("fisher: seed", expected="a whole number from 0 on", found=str(seed))
    ingredients = canonical_order(pool.ingredients)
    number = len(ingredients)
    state = _merge(ingredients, judge, floor, seed)
    best_single = max(ingredient.score for ingredient in ingredients)
    once = judge_once("all", state, judge, on_decision, best_single)
    return Soup(
        recipe="fisher",
        state=state,
        ingredients=ingredients,
        coefficients=(1 / number,) * number,
        score=once.score,
        decisions=once.decisions,
        options={"floor": floor, "seed": seed},
        summary=f"{number} model{'' if number == 1 else 's'}, each weight averaged by its Fisher information",
    )


def _merge(
    ingredients: tuple[Ingredient, ...], judge: GradientJudge, floor: float, seed: int
) -> "dict[str, torch.Tensor]":
    """Accumulate numerator and denominator model by model; dtypes and counters are those of the first model."""
    import torch

    numerator: dict[str, torch.Tensor] = {}
    denominator: dict[str, torch.Tensor] = {}
    first: State = {}
    for ingredient in ingredients:
        state = ingredient.load()
        check_finite(state, ingredient.name)
        if not numerator:
            first = {key: _copy_counter_or_shape(tensor) for key, tensor in state.items()}
            for key, tensor in state.items():
                if tensor.is_floating_point():
                    numerator[key] = torch.zeros(tensor.shape)
                    denominator[key] = torch.zeros(tensor.shape)
        check_compatible(first, state, ingredients[0].name, ingredient.name)
        weights = judge.fisher(state, seed)
        for key, total in numerator.items():
            precision = weights[key].to(torch.float32).clamp(min=floor)
            denominator[key].add_(precision)
            total.addcmul_(precision, state[key].to(torch.float32))
        del state, weights  # Frees them before the next ones are loaded.
    return {
        key: numerator.pop(key).div_(denominator.pop(key)).to(tensor.dtype) if key in numerator else tensor
        for key, tensor in first.items()
    }


def _copy_counter_or_shape(tensor: "torch.Tensor") -> "torch.Tensor":
    """Copy a counter; of a floating-point tensor return only shape and dtype (on the meta device)."""
    import torch

    return (
        torch.empty(tensor.shape, dtype=tensor.dtype, device="meta") if tensor.is_floating_point() else tensor.clone()
    )
