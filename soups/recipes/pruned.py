"""The pruned soup: all models to begin with, and out goes what hurts."""

from soups.recipes.pool import Judge, OnDecision, Pool, Soup, canonical_order, mean_of
from soups.recipes.sweep import Trace, best_first
from soups.weights import WeightedSum


def pruned(pool: Pool, judge: Judge, *, on_decision: OnDecision | None = None) -> Soup:
    """Backward elimination: the reverse of Algorithm 1 of Wortsman et al. 2022, arXiv:2203.05482, as no paper has it.

    Begins with the mean of all. The ingredients are tried worst first (by validation score; ties: higher log-loss,
    then name backwards): one leaves for good if the mean of the others scores at least as well. Passes repeat
    until one drops nothing; a set of ingredients that was judged already is not judged again. One always stays.

    In memory at a time: one ingredient, the float64 sum of those left, and one candidate. The final state is summed
    anew in canonical order.

    Args:
        pool: the ingredients, in any order.
        judge: weighs each candidate soup.
        on_decision: called with each decision (`all`, then `without NAME`; `accepted` says that it left).

    Raises:
        DataError: an ingredient does not fit the first, or holds NaN; names the ingredient and the tensor.
    """
    trace = Trace(on_decision)
    total = WeightedSum()
    for ingredient in canonical_order(pool.ingredients):
        total.add(ingredient.load(), name=ingredient.name)
    verdict = judge(total.mean())
    trace.add("all", True, verdict, verdict.score, f"the mean of all {len(pool.ingredients)}, to begin with")
    incumbent = verdict.score
    left = best_first(pool.ingredients)[::-1]
    needed: set[str] = set()  # Those that were tried since the last one left: trying again would say the same.
    while len(left) > 1 and len(needed) < len(left):
        for ingredient in tuple(left):
            if len(left) == 1 or ingredient.name in needed:
                continue
            state = ingredient.load()
            verdict = judge(total.mean_with(state, weight=-1.0, name=ingredient.name))
            drops = verdict.score >= incumbent
            how = "as good" if verdict.score == incumbent else "better" if drops else "worse"
            trace.add(f"without {ingredient.name}", drops, verdict, incumbent, f"{how} without it")
            if drops:
                left.remove(ingredient)
                total.add(state, weight=-1.0, name=ingredient.name)
                incumbent = verdict.score
                needed = set()
            else:
                needed.add(ingredient.name)
            del state  # The next one must not be loaded beside it.
    del total
    ingredients = canonical_order(left)
    final = mean_of(ingredients)
    dropped = len(pool.ingredients) - len(left)
    return Soup(
        recipe="pruned",
        state=final,
        ingredients=ingredients,
        coefficients=(1 / len(left),) * len(left),
        # A sum from which others were taken away may differ in the last bit from the one summed anew.
        score=judge(final).score if dropped else incumbent,
        decisions=tuple(trace.decisions),
        summary=f"kept {len(left)} of {len(pool.ingredients)}, dropped {dropped}",
    )
