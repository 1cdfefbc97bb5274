"""The top-k soup: the plain mean of the k best models by validation."""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from soups.core.errors import UsageError
from soups.recipes.shared.budget import untried_option, untried_text
from soups.recipes.shared.pool import Ingredient, Judge, OnDecision, Pool, Soup, canonical_order, mean_state
from soups.recipes.shared.running_mean import RunningSum, equal_tensors
from soups.recipes.shared.sweep import SweepResult, best_first, judge_once, sweep

if TYPE_CHECKING:
    from soups.recipes.shared.pool import State


def top_k(pool: Pool, judge: Judge, *, on_decision: OnDecision | None = None, k: int | None = None) -> Soup:
    """Average the best k models uniformly (Wortsman et al. 2022, arXiv:2203.05482); choosing k by validation is ours.

    The order is that of the paper's greedy soup: falling validation score, ties by lower log-loss, then name. Without
    `k`, each of 1 … N is judged, from one running sum, and the best wins. Of equal scores the largest k wins, since a
    mean of more models depends less on the validation images. Each candidate is judged only until it is certain that it
    cannot win, and the first is not judged if its verdict is logged. The sweep respects the judge's budget and replays
    a record of an earlier run (`budget`, `resume`).

    In memory at a time: one ingredient, the float64 sum and one candidate. The final state is summed anew in canonical
    order, and judged again if that changes a bit.

    Args:
        pool: the ingredients, in any order.
        judge: judges each candidate soup.
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
    best = _sweep_k(order, judge, on_decision) if k is None else None
    chosen = k if best is None else int(best.value)
    assert chosen is not None
    ingredients = canonical_order(order[:chosen])
    final = mean_state(ingredients)
    if best is None:
        best = judge_once(f"k={chosen}", final, judge, on_decision, order[0].score)
        score = best.score
    else:
        score = best.score if equal_tensors(final, _mean_in_order(order[:chosen])) else judge(final).score
    how = "as given" if k is not None else f"the best of {number} by validation"
    return Soup(
        recipe="top_k",
        state=final,
        ingredients=ingredients,
        coefficients=(1 / chosen,) * chosen,
        score=score,
        decisions=best.decisions,
        options={"k": chosen, **untried_option(best.untried)},
        summary=f"the mean of the best {chosen} of {number}: k {how}{untried_text(best.untried)}",
    )


def _sweep_k(order: list[Ingredient], judge: Judge, on_decision: OnDecision | None) -> SweepResult:
    known = {} if order[0].known_verdict is None else {1.0: order[0].known_verdict}
    with RunningSum() as total:
        return sweep("k", _prefix_means(order, total), judge, on_decision, later_wins_ties=True, known=known)


def _prefix_means(order: list[Ingredient], total: RunningSum) -> "Iterator[tuple[float, Callable[[], State]]]":
    for position, ingredient in enumerate(order):
        total.add(ingredient)
        yield position + 1, total.mean


def _mean_in_order(ingredients: list[Ingredient]) -> "State":
    """Return the mean of the ingredients summed in the given order, as it was judged."""
    with RunningSum() as total:
        for ingredient in ingredients:
            total.add(ingredient)
        return total.mean()
