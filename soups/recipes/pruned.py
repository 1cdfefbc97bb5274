"""The pruned soup: starts from all models and drops those that hurt."""

from typing import Literal

from soups.core.errors import UsageError
from soups.recipes.shared.acceptance import AtLeast, ScoreThenLoss
from soups.recipes.shared.budget import finish_soup, is_spent
from soups.recipes.shared.decisions import DecisionLog
from soups.recipes.shared.pool import Ingredient, Judge, OnDecision, Pool, Soup, Verdict, canonical_order, equal_soup
from soups.recipes.shared.reasons import explain_stop
from soups.recipes.shared.running_mean import RunningSum, equal_tensors
from soups.recipes.shared.sweep import best_first


def pruned(
    pool: Pool,
    judge: Judge,
    *,
    on_decision: OnDecision | None = None,
    ties: Literal["log_loss", "accept"] = "log_loss",
) -> Soup:
    """Backward elimination: the reverse of Algorithm 1 of Wortsman et al. 2022, arXiv:2203.05482; ours, not of a paper.

    Starts from the mean of all. Ingredients are tried worst first (by validation score; ties: higher log-loss, then
    name backwards): one is dropped for good if the mean of the others scores better, or the same with a log-loss that
    is not higher. Without the second condition every ingredient that does not change the score would be dropped, and
    few validation images cannot tell a useful one from a useless one. Passes repeat until one drops nothing. A set of
    ingredients is never judged twice, and a single model with a logged verdict not at all. At least one model stays.

    Each candidate is judged only until it is certain that the ingredient stays; the selection is the same as with all
    images. The recipe respects a judge's budget and replays a record of an earlier run (`budget`, `resume`).

    In memory at a time: one ingredient, the float64 sum of the members, and one candidate. The final state is summed
    anew in canonical order.

    Args:
        pool: the ingredients, in any order.
        judge: judges each candidate soup.
        on_decision: called with each decision (`all`, then `without NAME`; `accepted` says that it was dropped).
        ties: at equal scores: `log_loss` drops an ingredient if the log-loss does not rise, `accept` always.

    Raises:
        UsageError: an unknown value of `ties`.
        DataError: an ingredient does not fit the first, or holds NaN; names the ingredient and the tensor.
    """
    if ties not in ("log_loss", "accept"):
        raise UsageError("pruned: ties", expected="log_loss or accept", found=str(ties))
    log = DecisionLog(judge, on_decision)
    with RunningSum() as total:
        members, untried, verdict = _eliminate(pool, judge, ties == "log_loss", log, total)
        judged = total.mean()
    number, dropped = len(pool.ingredients), len(pool.ingredients) - len(members)
    soup = equal_soup("pruned", members, f"kept {len(members)} of {number}, dropped {dropped}", {"ties": ties})
    known = members[0].known_verdict if len(members) == 1 else None
    if known is not None:
        verdict = known()
    elif not equal_tensors(soup.state, judged):  # Subtraction may leave another last bit than the members' own sum.
        verdict = judge(soup.state)
    return finish_soup(soup, verdict.score, log.decisions, untried)


def _eliminate(
    pool: Pool, judge: Judge, by_loss: bool, log: DecisionLog, total: RunningSum
) -> tuple[list[Ingredient], list[str], Verdict]:
    """Return the remaining ingredients, the candidates left untried, and the verdict on the remaining ones' mean.

    Decisions are logged; `total` is left with the remaining ingredients.
    """
    for ingredient in canonical_order(pool.ingredients):
        total.add(ingredient)
    members = best_first(pool.ingredients)[::-1]
    known = members[0].known_verdict if len(members) == 1 else None
    get_verdict = known or (lambda: judge(total.mean()))
    incumbent = log.accept("all", get_verdict, f"the mean of all {len(members)}, to begin with")
    tried: set[frozenset[str]] = set()

    def others_of(ingredient: Ingredient) -> list[Ingredient]:
        return [other for other in members if other is not ingredient]

    def is_untried(ingredient: Ingredient) -> bool:
        return len(members) > 1 and frozenset(other.name for other in others_of(ingredient)) not in tried

    while any(map(is_untried, members)):
        for ingredient in filter(is_untried, tuple(members)):
            others = others_of(ingredient)
            decision = log.replay(f"without {ingredient.name}")
            if decision is None:
                decision = _judge_without(ingredient, others, judge, incumbent, by_loss, log, total)
            if decision is None:
                return members, [f"without {each.name}" for each in filter(is_untried, members)], incumbent
            tried.add(frozenset(other.name for other in others))
            if decision[0]:
                members, incumbent = others, decision[1]
                total.add(ingredient, weight=-1.0)
    return members, [], incumbent


def _judge_without(
    ingredient: Ingredient,
    others: list[Ingredient],
    judge: Judge,
    incumbent: Verdict,
    by_loss: bool,
    log: DecisionLog,
    total: RunningSum,
) -> tuple[bool, Verdict] | None:
    """Log and return whether an ingredient is dropped, and the verdict without it; None if the budget is spent."""
    known = others[0].known_verdict if len(others) == 1 else None
    if known is None and is_spent(judge):
        return None
    accept = ScoreThenLoss(incumbent.score, incumbent.log_loss) if by_loss else AtLeast(incumbent.score)
    verdict = judge(total.mean_with(ingredient, weight=-1.0), accept) if known is None else known()
    drops = verdict.complete and accept.allows(verdict)
    if not verdict.complete:
        why = explain_stop(verdict)
    elif verdict.score != incumbent.score:
        why = f"{'better' if drops else 'worse'} without it"
    else:
        why = "as good without it" if drops else "as good without it, but the log-loss is higher"
    log.add(f"without {ingredient.name}", drops, verdict, incumbent, why)
    return drops, verdict
