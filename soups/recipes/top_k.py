"""The top-k soup: the plain mean of the k best models by validation."""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from soups.errors import UsageError
from soups.recipes.pool import Ingredient, Judge, OnDecision, Pool, Soup, canonical_order, mean_of
from soups.recipes.sweep import best_first, judged_once, sweep
from soups.weights import WeightedSum

if TYPE_CHECKING:
    from soups.recipes.pool import State


def top_k(pool: Pool, judge: Judge, *, on_decision: OnDecision | None = None, k: int | None = None) -> Soup:
    """The uniform soup (Wortsman et al. 2022, arXiv:2203.05482) of the best k models; choosing k by validation is ours.

    The order is that of the paper's greedy soup: falling validation score, ties by lower log-loss, then
    name. Without `k` each of 1 … N is judged, from one running sum, and the best wins; among equals the
    largest, since a mean of more models
    depends less on the luck of the validation set.

    In memory at a time: one ingredient, the float64 sum and one candidate. The final state is summed anew in canonical
    order, and judged.

    Args:
        pool: the ingredients, in any order.
        judge: weighs each candidate soup.
        on_decision: called with each decision (`k=3`; `accepted` says that it took the lead).
        k: fixed number of models instead of a sweep.

    Raises:
        UsageError: `k` is not between 1 and the number of models.
        DataError: an ingredient does not fit the first, or holds NaN; names the ingredient and the tensor.
    """
    order = best_first(pool.ingredients)
    number = len(order)
    if k is not None and not 1 <= k <= number:
        raise UsageError("top_k: k", expected=f"a number of models from 1 to {number}", found=str(k))
    decisions = None
    if k is None:
        best = sweep("k", _prefixes(order), judge, on_decision, later_wins_ties=True)
        chosen, decisions = int(best.value), best.decisions
    else:
        chosen = k
    ingredients = canonical_order(order[:chosen])
    final = mean_of(ingredients)
    if decisions is None:
        once = judged_once(f"k={chosen}", final, judge, on_decision, order[0].score)
        score, decisions = once.score, once.decisions
    else:
        score = judge(final).score  # The running sum may differ in the last bit.
    how = "as given" if k is not None else f"the best of {number} by validation"
    return Soup(
        recipe="top_k",
        state=final,
        ingredients=ingredients,
        coefficients=(1 / chosen,) * chosen,
        score=score,
        decisions=decisions,
        options={"k": chosen},
        summary=f"the mean of the best {chosen} of {number}: k {how}",
    )


def _prefixes(order: list[Ingredient]) -> "Iterator[tuple[float, Callable[[], State]]]":
    total = WeightedSum()
    for position, ingredient in enumerate(order):
        total.add(ingredient.load(), name=ingredient.name)
        yield position + 1, total.mean
