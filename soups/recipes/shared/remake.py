"""Rebuilding the state of a soup from its recipe, ingredients and recorded options, without choosing anything."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from soups.checkpoints.average import sum_coefficients
from soups.core.errors import DataError
from soups.recipes.registry import RECIPES
from soups.recipes.shared.options import recipe_options
from soups.recipes.shared.pool import Ingredient, Judge, Pool, mean_state

if TYPE_CHECKING:
    from soups.recipes.shared.pool import State


def remake(
    recipe: str,
    ingredients: Sequence[Ingredient],
    coefficients: Sequence[float],
    options: Mapping[str, Any],
    *,
    start: Ingredient | None = None,
    judge: Judge | None = None,
) -> "State":
    """Return the state dict of a soup, equal byte for byte to what its recipe made.

    Recipes that select models take the plain mean of those. Others run with the recorded options fixed, so that they
    choose nothing.

    Args:
        recipe: a key of `RECIPES`, or `average` for the output of `soups.average_states`.
        ingredients: in canonical order; their scores are not used.
        coefficients: one for each ingredient.
        options: of the soup; names that are not options of the recipe are ignored.
        start: for recipes with `needs_start`.
        judge: for recipes with `remakes_with_judge`.

    Raises:
        DataError: an unknown recipe, an ingredient that does not fit the others or holds NaN, or no start.
    """
    if recipe == "average":
        return mean_state(ingredients, sum_coefficients(coefficients))
    if recipe not in RECIPES:
        raise DataError(
            f"a soup of the recipe {recipe!r}, which is not known here",
            expected=f"one of {', '.join(RECIPES)}",
            next_step="rebuild it with the version of soups that made it",
        )
    entry = RECIPES[recipe]
    if entry.remake is not None:
        return entry.remake(ingredients, coefficients, options)
    known = recipe_options(recipe)
    fixed = {name: value for name, value in options.items() if name in known}
    pool = Pool(tuple(ingredients), start)
    return entry(pool, judge if entry.remakes_with_judge else None, **fixed).state
