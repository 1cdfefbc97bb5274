"""Fisher merging: averages each weight, weighted by how much each model's predictions depend on it."""

from typing import TYPE_CHECKING

from soups.recipes.shared.pool import GradientJudge, Ingredient, OnDecision, Pool, Soup, canonical_order, equal_soup
from soups.recipes.shared.sweep import check_range, check_whole, judge_finished
from soups.weights.state_dict import check_compatible, check_finite

if TYPE_CHECKING:
    import torch


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
    check_range("fisher: floor", floor, "(0, inf)")
    check_whole("fisher: seed", seed)
    ingredients = canonical_order(pool.ingredients)
    state, number = _merge(ingredients, judge, floor, seed), len(ingredients)
    summary = f"{number} model{'' if number == 1 else 's'}, each weight averaged by its Fisher information"
    soup = equal_soup("fisher", ingredients, summary, {"floor": floor, "seed": seed}, state)
    return judge_finished(soup, judge, on_decision)


def _merge(
    ingredients: tuple[Ingredient, ...], judge: GradientJudge, floor: float, seed: int
) -> "dict[str, torch.Tensor]":
    """Accumulate numerator and denominator model by model; dtypes and counters are those of the first model."""
    import torch

    merged: dict[str, torch.Tensor] = {}
    numerator: dict[str, torch.Tensor] = {}
    denominator: dict[str, torch.Tensor] = {}
    for ingredient in ingredients:
        state = ingredient.load()
        check_finite(state, ingredient.name)
        if not merged:
            floating = {key: tensor.shape for key, tensor in state.items() if tensor.is_floating_point()}
            numerator, denominator = ({key: torch.zeros(shape) for key, shape in floating.items()} for _ in range(2))
            # Only shape and dtype (on the meta device) of what is averaged, a copy of the counters.
            merged = {
                key: torch.empty_like(tensor, device="meta") if key in floating else tensor.clone()
                for key, tensor in state.items()
            }
        check_compatible(merged, state, ingredients[0].name, ingredient.name)
        weights = judge.fisher(state, seed)
        for key, total in numerator.items():
            precision = weights[key].to(torch.float32).clamp(min=floor)
            denominator[key].add_(precision)
            total.addcmul_(precision, state[key].to(torch.float32))
        del state, weights  # Frees them before the next ones are loaded.
    for key in list(numerator):
        merged[key] = numerator.pop(key).div_(denominator.pop(key)).to(merged[key].dtype)
    return merged
