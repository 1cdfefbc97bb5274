"""The greedy soup: models join one by one, each only if the soup does not get worse by it."""

import math
from typing import TYPE_CHECKING, Any

from soups.recipes.acceptance import at_least, more_than
from soups.recipes.pool import (
    Ingredient,
    Judge,
    OnDecision,
    Pool,
    Soup,
    Verdict,
    canonical_order,
    decision,
    mean_of,
)
from soups.recipes.sweep import best_first
from soups.weights import WeightedSum

if TYPE_CHECKING:
    from soups.recipes.pool import State


def greedy(pool: Pool, judge: Judge, *, on_decision: OnDecision | None = None, strict: bool = False) -> Soup:
    """Algorithm 1 of Wortsman et al. 2022, arXiv:2203.05482, "greedy soup".

    The ingredients come in order of falling validation score (ties: lower log-loss, then name). The first is taken as
    it is, and its judged score is the one to reach; each further one joins for good if the mean of the soup so far and
    it scores at least as well (`strict`: better, as the paper's own code has it). The soup's mean is over all
    ingredients alike.

    A candidate is judged only until it is certain that it will not join; who joins is the same as if each were judged
    on all images.

    In memory at a time: one ingredient, the float64 sum of those kept, and one candidate. The final state is summed
    anew in canonical order, so its bits depend on nothing but who is in it.

    Args:
        pool: the ingredients, in any order.
        judge: weighs each candidate soup.
        on_decision: called with each decision as soon as it has fallen.
        strict: a candidate that only equals the incumbent is left out.

    Raises:
        DataError: an ingredient does not fit the first, or holds NaN; names the ingredient and the tensor.
    """
    kept: list[Ingredient] = []
    total = WeightedSum()
    decisions: list[dict[str, Any]] = []
    incumbent: Verdict | None = None
    for ingredient in best_first(pool.ingredients):
        state = ingredient.load()
        accept = None if incumbent is None else (more_than if strict else at_least)(incumbent.score)
        verdict = judge(total.mean_with(state, name=ingredient.name), accept)
        accepted = accept is None or (verdict.complete and accept.allows(verdict))
        reach = verdict.score if incumbent is None else incumbent.score
        decisions.append(decision(ingredient.name, accepted, verdict, reach, _why(verdict, incumbent, accepted)))
        if on_decision is not None:
            on_decision(decisions[-1])
        if accepted:
            kept.append(ingredient)
            total.add(state, name=ingredient.name)
            incumbent = verdict
        del state  # The next one must not be loaded beside it.
    assert incumbent is not None
    ingredients = canonical_order(kept)
    judged = total.mean()
    del total  # Two sums in float64 would not fit everywhere.
    final = mean_of(ingredients)
    return Soup(
        recipe="greedy",
        state=final,
        ingredients=ingredients,
        coefficients=(1 / len(kept),) * len(kept),
        score=incumbent.score if _same_numbers(final, judged) else judge(final).score,
        decisions=tuple(decisions),
        options={"strict": strict},
        summary=_summary(decisions, strict),
    )


def _same_numbers(one: "State", other: "State") -> bool:
    """Whether the tensors that are averaged are equal to the bit; counters do not change what a model says."""
    return all(not one[key].is_floating_point() or bool((one[key] == other[key]).all()) for key in one)


def _why(verdict: Verdict, incumbent: Verdict | None, accepted: bool) -> str:
    if incumbent is None:
        return "the best single model by validation, taken as it is"
    if not verdict.complete:
        return f"out of reach after {verdict.images} images, {verdict.errors} of them wrong"
    if verdict.score == incumbent.score:
        return "as good as without it" if accepted else "only as good as without it"
    gap = f"by {_amount(_gap(vars(verdict), vars(incumbent)))}"
    return f"better with it {gap}" if verdict.score > incumbent.score else f"worse with it {gap}"


def _gap(one: dict[str, Any], other: dict[str, Any]) -> float | int:
    """How far apart two results are: in images (int) where the score is the accuracy, else in the score (float)."""
    if all(math.isclose(result["score"], 1 - result["errors"] / result["images"]) for result in (one, other)):
        return abs(one["errors"] - other["errors"])
    return abs(one["score"] - other["score"])


def _amount(gap: float | int) -> str:
    if isinstance(gap, int):
        return f"{gap} image{'' if gap == 1 else 's'}"
    return f"{gap:.2g} in the score"


def _summary(decisions: list[dict[str, Any]], strict: bool) -> str:
    """What was kept, and where one model was kept, why: the same words however early the judge stopped."""
    kept = sum(decision["accepted"] for decision in decisions)
    text = f"kept {kept} of {len(decisions)}"
    if kept > 1 or len(decisions) == 1:
        return text
    first, others = decisions[0], decisions[1:]
    who = f"the one other, {others[0]['candidate']}," if len(others) == 1 else f"each of the {len(others)} others"
    verb = "did not improve on" if strict else "fell short of"
    return f"{text}: averaged with {first['candidate']}, {who} {verb} its score"
