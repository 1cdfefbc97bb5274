"""The uniform soup: the plain mean of all ingredients."""

from soups.recipes.pool import Judge, OnDecision, Pool, Soup, canonical_order, mean_of
from soups.recipes.sweep import judged_once


def uniform(pool: Pool, judge: Judge | None, *, on_decision: OnDecision | None = None) -> Soup:
    """Average all ingredients with equal weights (Wortsman et al. 2022, arXiv:2203.05482, "uniform soup").

    One ingredient is in memory at a time beside the float64 sum. The sum runs in canonical order, so every order of the
    pool gives the same bits.

    Args:
        pool: the ingredients.
        judge: weighs the finished soup; None leaves its score open.
        on_decision: called once, with the finished soup's result.

    Raises:
        DataError: two ingredients do not fit each other, or one holds NaN; names the ingredient and the tensor.
    """
    ingredients = canonical_order(pool.ingredients)
    number = len(ingredients)
    state = mean_of(ingredients)
    summary = f"the mean of all {number} models" if number > 1 else f"the pool's only model, {ingredients[0].name}"
    best_single = max(ingredient.score for ingredient in ingredients)
    once = None if judge is None else judged_once("all", state, judge, on_decision, best_single)
    return Soup(
        recipe="uniform",
        state=state,
        ingredients=ingredients,
        coefficients=(1 / number,) * number,
        score=None if once is None else once.score,
        decisions=() if once is None else once.decisions,
        summary=summary,
    )
