"""Soups made again: from a recipe, its ingredients and what it chose, the same bits, with nothing left to choose."""

from collections.abc import Mapping, Sequence
from typing import Any

from soups.checkpoints.average import sum_coefficients
from soups.core.errors import DataError
from soups.recipes.registry import RECIPES
from soups.recipes.shared.options import recipe_options
from soups.recipes.shared.pool import Ingredient, Judge, Pool, State, mean_state


def remake(
    recipe: str,
    ingredients: Sequence[Ingredient],
    coefficients: Sequence[float],
    options: Mapping[str, Any],
    *,
    start: Ingredient | None = None,
    judge: Judge | None = None,
) -> State:
    """The state of a soup, as its recipe made it once.

    Recipes that chose models are a plain mean of those; others get the options that they chose themselves as fixed
    ones, and then choose nothing.

    Args:
        recipe: a key of `RECIPES`, or `average_states` for what `soups.average_states` made.
        ingredients: in canonical order; their scores are not used.
        coefficients: one for each.
        options: those of the soup; what is no option of the recipe is left alone.
        start: for recipes with `needs_start`.
        judge: for recipes with `remakes_with_judge`.

    Raises:
        DataError: no such recipe, an ingredient does not fit the others or holds NaN, or the start is missing.
    """
    if recipe == "average":
        return mean_state(ingredients, sum_coefficients(coefficients))
    if recipe not in RECIPES:
        raise DataError(
            f"a soup of the recipe {recipe!r}, which is not known here",
            expected=f"one of {', '.join(RECIPES)}",
            next_step="use the version of soups that made it",
        )
    found = RECIPES[recipe]
    if found.remake is not None:
        return found.remake(ingredients, coefficients, options)
    known = recipe_options(recipe)
    fixed = {name: value for name, value in options.items() if name in known}
    pool = Pool(tuple(ingredients), start)
    return found(pool, judge if found.remakes_with_judge else None, **fixed).state
