"""The pruned soup: starts from all models and drops those that hurt."""

from dataclasses import dataclass, field
from typing import Literal

from soups.core.errors import UsageError
from soups.recipes.shared.acceptance import AtLeast, ScoreThenLoss
from soups.recipes.shared.budget import is_spent, untried_option, untried_text
from soups.recipes.shared.pool import Ingredient, Judge, OnDecision, Pool, Soup, Verdict, canonical_order, mean_state
from soups.recipes.shared.reasons import explain_stop
from soups.recipes.shared.resume import recorded_decision, verdict_from_decision
from soups.recipes.shared.running_mean import RunningSum, equal_tensors
from soups.recipes.shared.sweep import DecisionLog, best_first


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
    with RunningSum() as total:
        elimination = _BackwardElimination(judge, ties == "log_loss", DecisionLog(on_decision), total)
        elimination.begin(pool)
        while elimination.run_pass():
            pass
        ingredients = canonical_order(elimination.members)
        judged = total.mean()
    final = mean_state(ingredients)
    number, untried = len(ingredients), elimination.untried()
    dropped = len(pool.ingredients) - number
    assert elimination.incumbent is not None
    known = ingredients[0].known_verdict if number == 1 else None
    if known is not None:
        score = known().score
    else:
        # Subtraction may leave another last bit than the sum of the members alone.
        score = elimination.incumbent.score if equal_tensors(final, judged) else judge(final).score
    return Soup(
        recipe="pruned",
        state=final,
        ingredients=ingredients,
        coefficients=(1 / number,) * number,
        score=score,
        decisions=tuple(elimination.log.decisions),
        options={"ties": ties, **untried_option(untried)},
        summary=f"kept {number} of {len(pool.ingredients)}, dropped {dropped}{untried_text(untried)}",
    )


@dataclass
class _BackwardElimination:
    """State of a backward elimination."""

    judge: Judge
    by_loss: bool
    log: DecisionLog
    total: RunningSum
    members: list[Ingredient] = field(default_factory=list)
    tried: set[frozenset[str]] = field(default_factory=set)
    incumbent: Verdict | None = None

    def begin(self, pool: Pool) -> None:
        """Judge the mean of all."""
        for ingredient in canonical_order(pool.ingredients):
            self.total.add(ingredient)
        self.members = best_first(pool.ingredients)[::-1]
        line = recorded_decision(self.judge, "all")
        if line is not None:
            self.log.add_recorded(line)
            self.incumbent = verdict_from_decision(line)
            return
        known = self.members[0].known_verdict if len(self.members) == 1 else None
        self.incumbent = self.judge(self.total.mean()) if known is None else known()
        reason = f"the mean of all {len(self.members)}, to begin with"
        self.log.add("all", True, self.incumbent, self.incumbent.score, reason)

    def run_pass(self) -> bool:
        """Try to drop each member, worst first; return whether any was tried and the budget is not spent."""
        tried = False
        for ingredient in tuple(self.members):
            if self._is_untried(ingredient):
                if not self._try_without(ingredient):
                    return False
                tried = True
        return tried

    def untried(self) -> list[str]:
        """Return the candidates that were not judged because the budget was spent."""
        return [f"without {ingredient.name}" for ingredient in self.members if self._is_untried(ingredient)]

    def _others(self, ingredient: Ingredient) -> list[Ingredient]:
        return [other for other in self.members if other is not ingredient]

    def _is_untried(self, ingredient: Ingredient) -> bool:
        return len(self.members) > 1 and frozenset(other.name for other in self._others(ingredient)) not in self.tried

    def _try_without(self, ingredient: Ingredient) -> bool:
        """Judge the soup without an ingredient and drop it if that is better; return False if the budget is spent."""
        assert self.incumbent is not None
        name, others = f"without {ingredient.name}", self._others(ingredient)
        line = recorded_decision(self.judge, name)
        if line is not None:
            self.log.add_recorded(line)
            verdict, drops = verdict_from_decision(line), line["accepted"]
        else:
            known = others[0].known_verdict if len(others) == 1 else None
            if known is None and is_spent(self.judge):
                return False
            score, loss = self.incumbent.score, self.incumbent.log_loss
            accept = ScoreThenLoss(score, loss) if self.by_loss else AtLeast(score)
            mean = None if known is not None else self.total.mean_with(ingredient, weight=-1.0)
            verdict = known() if known is not None else self.judge(mean, accept)  # type: ignore[arg-type]
            drops = verdict.complete and accept.allows(verdict)
            self.log.add(name, drops, verdict, score, _explain(verdict, self.incumbent, drops), self.incumbent)
        self.tried.add(frozenset(other.name for other in others))
        if drops:
            self.members, self.incumbent = others, verdict
            self.total.add(ingredient, weight=-1.0)
        return True


def _explain(verdict: Verdict, incumbent: Verdict, drops: bool) -> str:
    if not verdict.complete:
        return explain_stop(verdict)
    if verdict.score != incumbent.score:
        return f"{'better' if drops else 'worse'} without it"
    return "as good without it" if drops else "as good without it, but the log-loss is higher"
