"""The top-k soup: the plain mean of the k best models by validation."""

from collections.abc import Callable, Iterator

from soups.core.errors import UsageError
from soups.recipes.shared.budget import finish_soup
from soups.recipes.shared.pool import Ingredient, Judge, OnDecision, Pool, Soup, State, equal_soup, mean_state
from soups.recipes.shared.running_mean import RunningSum, equal_tensors
from soups.recipes.shared.sweep import SweepResult, best_first, judge_finished, sweep


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
    best = _sweep_k(order, judge, on_decision) if k is None else SweepResult(k)
    chosen = int(best.value)
    how = f"the best of {number} by validation" if k is None else "as given"
    summary = f"the mean of the best {chosen} of {number}: k {how}"
    soup = equal_soup("top_k", order[:chosen], summary, {"k": chosen})
    if k is not None:
        return judge_finished(soup, judge, on_decision, f"k={k}")
    # The judged mean was summed in the order of scores, which may give another last bit.
    same = list(soup.ingredients) == order[:chosen] or equal_tensors(soup.state, mean_state(order[:chosen]))
    return finish_soup(soup, best.score if same else judge(soup.state).score, best.decisions, best.untried)


def _sweep_k(order: list[Ingredient], judge: Judge, on_decision: OnDecision | None) -> SweepResult:
    known = {} if order[0].known_verdict is None else {1.0: order[0].known_verdict}
    with RunningSum() as total:

        def means() -> Iterator[tuple[float, Callable[[], State]]]:
            for position, ingredient in enumerate(order):
                total.add(ingredient)
                yield position + 1, total.mean

        return sweep("k", means(), judge, on_decision, later_wins_ties=True, known=known)
