"""The pruned soup: all models to begin with, and out goes what hurts."""

from dataclasses import dataclass, field
from typing import Literal

from soups.core.errors import UsageError
from soups.recipes.shared.acceptance import AtLeast, LowerLoss
from soups.recipes.shared.budget import is_spent, untried_option, untried_text
from soups.recipes.shared.pool import Ingredient, Judge, OnDecision, Pool, Soup, Verdict, canonical_order, mean_state
from soups.recipes.shared.reasons import explain_stop
from soups.recipes.shared.resume import recall_decision, verdict_of
from soups.recipes.shared.running_mean import RunningSum, equal_tensors
from soups.recipes.shared.sweep import DecisionLog, best_first


def pruned(
    pool: Pool,
    judge: Judge,
    *,
    on_decision: OnDecision | None = None,
    ties: Literal["log_loss", "accept"] = "log_loss",
) -> Soup:
    """Backward elimination: the reverse of Algorithm 1 of Wortsman et al. 2022, arXiv:2203.05482, as no paper has it.

    Begins with the mean of all. The ingredients are tried worst first (by validation score; ties: higher log-loss,
    then name backwards): one leaves for good if the mean of the others scores better, or the same with a log-loss that
    is not higher. Without that second condition every ingredient that makes no difference to the score would leave,
    and few validation images tell a useful one from a useless one. Passes repeat until one drops nothing; a set of
    ingredients that was judged already is not judged again, a single model whose verdict is known not at all. One
    always stays.

    Each is judged only until it is certain that the ingredient stays, which is the same as if on all images. A judge
    with a budget or with a record of an earlier run is asked accordingly (`budget`, `resume`).

    In memory at a time: one ingredient, the float64 sum of those left, and one candidate. The final state is summed
    anew in canonical order.

    Args:
        pool: the ingredients, in any order.
        judge: weighs each candidate soup.
        on_decision: called with each decision (`all`, then `without NAME`; `accepted` says that it left).
        ties: `accept`: at equal scores an ingredient leaves whatever the log-loss.

    Raises:
        UsageError: no such `ties`.
        DataError: an ingredient does not fit the first, or holds NaN; names the ingredient and the tensor.
    """
    if ties not in ("log_loss", "accept"):
        raise UsageError("pruned: ties", expected="log_loss or accept", found=str(ties))
    with RunningSum() as total:
        shrinking = _Shrinking(judge, ties == "log_loss", DecisionLog(on_decision), total)
        shrinking.begin(pool)
        while shrinking.another_pass():
            pass
        ingredients = canonical_order(shrinking.left)
        judged = total.mean()
    final = mean_state(ingredients)
    number, untried = len(ingredients), shrinking.untried()
    dropped = len(pool.ingredients) - number
    assert shrinking.incumbent is not None
    known = ingredients[0].known if number == 1 else None
    if known is not None:
        score = known().score
    else:
        # A sum from which others were taken away may differ in the last bit from the one summed anew.
        score = shrinking.incumbent.score if equal_tensors(final, judged) else judge(final).score
    return Soup(
        recipe="pruned",
        state=final,
        ingredients=ingredients,
        coefficients=(1 / number,) * number,
        score=score,
        decisions=tuple(shrinking.trace.decisions),
        options={"ties": ties, **untried_option(untried)},
        summary=f"kept {number} of {len(pool.ingredients)}, dropped {dropped}{untried_text(untried)}",
    )


@dataclass
class _Shrinking:
    """A soup under way."""

    judge: Judge
    by_loss: bool
    trace: DecisionLog
    total: RunningSum
    left: list[Ingredient] = field(default_factory=list)
    tried: set[frozenset[str]] = field(default_factory=set)
    incumbent: Verdict | None = None

    def begin(self, pool: Pool) -> None:
        """The mean of all."""
        for ingredient in canonical_order(pool.ingredients):
            self.total.add(ingredient)
        self.left = best_first(pool.ingredients)[::-1]
        line = recall_decision(self.judge, "all")
        if line is not None:
            self.trace.recall(line)
            self.incumbent = verdict_of(line)
            return
        known = self.left[0].known if len(self.left) == 1 else None
        self.incumbent = self.judge(self.total.mean()) if known is None else known()
        reason = f"the mean of all {len(self.left)}, to begin with"
        self.trace.add("all", True, self.incumbent, self.incumbent.score, reason)

    def another_pass(self) -> bool:
        """Try each that is left, worst first; whether there was anything to try, and anything left to try it with."""
        tried = False
        for ingredient in tuple(self.left):
            if self._is_new(ingredient):
                if not self._try(ingredient):
                    return False
                tried = True
        return tried

    def untried(self) -> list[str]:
        """What the budget left."""
        return [f"without {ingredient.name}" for ingredient in self.left if self._is_new(ingredient)]

    def _others(self, ingredient: Ingredient) -> list[Ingredient]:
        return [other for other in self.left if other is not ingredient]

    def _is_new(self, ingredient: Ingredient) -> bool:
        return len(self.left) > 1 and frozenset(other.name for other in self._others(ingredient)) not in self.tried

    def _try(self, ingredient: Ingredient) -> bool:
        """Judge the soup without it, and drop it if that is better; False where the budget is spent."""
        assert self.incumbent is not None
        name, others = f"without {ingredient.name}", self._others(ingredient)
        line = recall_decision(self.judge, name)
        if line is not None:
            self.trace.recall(line)
            verdict, drops = verdict_of(line), line["accepted"]
        else:
            known = others[0].known if len(others) == 1 else None
            if known is None and is_spent(self.judge):
                return False
            score, loss = self.incumbent.score, self.incumbent.log_loss
            accept = LowerLoss(score, loss) if self.by_loss else AtLeast(score)
            mean = None if known is not None else self.total.mean_with(ingredient, weight=-1.0)
            verdict = known() if known is not None else self.judge(mean, accept)  # type: ignore[arg-type]
            drops = verdict.complete and accept.allows(verdict)
            self.trace.add(name, drops, verdict, score, _why(verdict, self.incumbent, drops), self.incumbent)
        self.tried.add(frozenset(other.name for other in others))
        if drops:
            self.left, self.incumbent = others, verdict
            self.total.add(ingredient, weight=-1.0)
        return True


def _why(verdict: Verdict, incumbent: Verdict, drops: bool) -> str:
    if not verdict.complete:
        return explain_stop(verdict)
    if verdict.score != incumbent.score:
        return f"{'better' if drops else 'worse'} without it"
    return "as good without it" if drops else "as good without it, but the log-loss is higher"
