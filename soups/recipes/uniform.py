"""The uniform soup: the plain mean of all ingredients."""

from typing import Any

from soups.recipes.pool import Judge, OnDecision, Pool, Soup, canonical_order, decision, mean_of


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
    decisions: tuple[dict[str, Any], ...] = ()
    score = None
    summary = f"the mean of all {number} models" if number > 1 else f"the pool's only model, {ingredients[0].name}"
    if judge is not None:
        verdict = judge(state)
        score = verdict.score
        best = max(ingredient.score for ingredient in ingredients)
        decisions = (decision("all", True, verdict, best, f"{summary}, without choosing"),)
        if on_decision is not None:
            on_decision(decisions[0])
    return Soup(
        recipe="uniform",
        state=state,
        ingredients=ingredients,
        coefficients=(1 / number,) * number,
        score=score,
        decisions=decisions,
        summary=summary,
    )
