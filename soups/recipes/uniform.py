"""The uniform soup: the plain mean of all ingredients."""

from dataclasses import replace

from soups.recipes.shared.pool import Ingredient, Judge, OnDecision, Pool, Soup, canonical_order, equal_soup, mean_state
from soups.recipes.shared.sweep import judge_finished


def uniform(pool: Pool, judge: Judge | None, *, on_decision: OnDecision | None = None) -> Soup:
    """Average all ingredients with equal weights (Wortsman et al. 2022, arXiv:2203.05482, "uniform soup").

    One ingredient is in memory at a time beside the float64 sum. The sum runs in canonical order, so every order of the
    pool gives the same bits.

    Args:
        pool: the ingredients.
        judge: judges the finished soup; None leaves its score open.
        on_decision: called once, with the finished soup's result.

    Raises:
        DataError: two ingredients do not fit each other, or one holds NaN; names the ingredient and the tensor.
    """
    soup = uniform_soup(canonical_order(pool.ingredients))
    return judge_finished(replace(soup, state=mean_state(soup.ingredients)), judge, on_decision)


def uniform_soup(ingredients: tuple[Ingredient, ...]) -> Soup:
    """Return the uniform soup of ingredients in canonical order with an empty state."""
    number = len(ingredients)
    summary = f"the mean of all {number} models" if number > 1 else f"the pool's only model, {ingredients[0].name}"
    return equal_soup("uniform", ingredients, summary, state={})
