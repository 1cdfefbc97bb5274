"""The greedy soup: models join one by one, each only if the soup does not get worse by it."""

from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Any, Literal

from soups.core.errors import UsageError
from soups.recipes.shared.acceptance import AtLeast, LowerLoss, Significant
from soups.recipes.shared.budget import is_spent, untried_option, untried_text
from soups.recipes.shared.pool import (
    Accept,
    Ingredient,
    Judge,
    OnDecision,
    Pool,
    Soup,
    Verdict,
    canonical_order,
    mean_state,
)
from soups.recipes.shared.reasons import explain_decision
from soups.recipes.shared.resume import recall_decision, verdict_of
from soups.recipes.shared.running_mean import RunningSum, equal_tensors
from soups.recipes.shared.sweep import DecisionLog, best_first, check_range


def greedy(
    pool: Pool,
    judge: Judge,
    *,
    on_decision: OnDecision | None = None,
    accept: Literal["equal", "better", "significant"] = "equal",
    level: float = 0.05,
    ties: Literal["accept", "log_loss"] = "accept",
) -> Soup:
    """Algorithm 1 of Wortsman et al. 2022, arXiv:2203.05482, "greedy soup".

    The ingredients come in order of falling validation score (ties: lower log-loss, then name). The first is taken as
    it is, and its score (known, or judged) is the one to reach; each further one joins for good if the mean of the soup
    so far and it scores at least as well. The soup's mean is over all ingredients alike.

    A candidate is judged only until it is certain that it will not join; who joins is the same as if each were judged
    on all images. So it is where the judge weighs several candidates at once (`judge.together`). A judge with a budget
    or with a record of an earlier run is asked accordingly (`budget`, `resume`).

    In memory at a time: the float64 sum of those kept, one ingredient and its candidate soup. While that is judged, the
    next ingredient's file is read ahead, if it is mapped. The final state is summed anew in canonical order, so its
    bits depend on nothing but who is in it.

    Args:
        pool: the ingredients, in any order.
        judge: weighs each candidate soup.
        on_decision: called with each decision as soon as it has fallen.
        accept: what a candidate has to be: `equal` to the soup so far or better (Algorithm 1), `better` (the paper's
            own code), or `significant`: better by a paired gain of images that chance gives with at most `level`.
        level: for `significant`, in (0, 1).
        ties: for `equal`, what becomes of equal scores: `accept`, or `log_loss`: only where that does not rise.

    Raises:
        UsageError: an option that does not exist, or one that means nothing beside the others.
        DataError: an ingredient does not fit the first, or holds NaN; names the ingredient and the tensor.
    """
    options: dict[str, Any] = {"accept": accept, "ties": ties}
    if accept == "significant":
        check_range("greedy: level", level, 0, 1, low_open=True, below=True)
        options["level"] = level
    rules: dict[tuple[str, str], Callable[[Verdict], Accept]] = {
        ("equal", "accept"): lambda incumbent: AtLeast(incumbent.score),
        ("equal", "log_loss"): lambda incumbent: LowerLoss(incumbent.score, incumbent.log_loss),
        ("better", "accept"): lambda incumbent: AtLeast(incumbent.score, strict=True),
        ("significant", "accept"): lambda incumbent: Significant(incumbent, level),
    }
    if (accept, ties) not in rules:
        known = ", ".join(f"{one} with ties={other}" for one, other in rules)
        raise UsageError("greedy: accept", expected=f"one of {known}", found=f"{accept} with ties={ties}")
    short = {"equal": "fell short of", "better": "did not improve on"}.get(accept, "was not surely better than")
    rule = AcceptanceRule(rules[accept, ties], f"{short} its score")
    return grow_soup("greedy", pool, judge, on_decision, rule, options)


@dataclass(frozen=True)
class AcceptanceRule:
    """When a candidate joins a soup that grows."""

    accept: Callable[[Verdict], Accept]
    """What a candidate has to reach, given the incumbent's verdict."""
    failed: str
    """What is said of candidates that did not: "fell short of its score"."""


def grow_soup(
    recipe: str, pool: Pool, judge: Judge, on_decision: OnDecision | None, rule: AcceptanceRule, options: dict[str, Any]
) -> Soup:
    """The soup that begins with the best ingredient and takes in, best first, whatever the rule accepts; see `greedy`.

    Args:
        recipe: its name.
        pool: the ingredients.
        judge: weighs each candidate.
        on_decision: called with each decision.
        rule: who joins.
        options: the recipe's settings, for the soup.
    """
    with RunningSum() as total:
        growth = _Growth(judge, rule, DecisionLog(on_decision), total)
        growth.begin(*best_first(pool.ingredients))
        while growth.step():
            pass
        kept, untried = growth.kept, [ingredient.name for ingredient in growth.rest]
        ingredients = canonical_order(kept)
        judged = total.mean()
    # A sum in the order of joining is the canonical one where the orders are the same.
    final = judged if list(ingredients) == kept else mean_state(ingredients)
    assert growth.incumbent is not None
    return Soup(
        recipe=recipe,
        state=final,
        ingredients=ingredients,
        coefficients=(1 / len(kept),) * len(kept),
        score=growth.incumbent.score if equal_tensors(final, judged) else judge(final).score,
        decisions=tuple(growth.trace.decisions),
        options={**options, **untried_option(untried)},
        summary=_summary(growth.trace.decisions, rule) + untried_text(untried),
    )


@dataclass
class _Growth:
    """A soup under way."""

    judge: Judge
    rule: AcceptanceRule
    trace: DecisionLog
    total: RunningSum
    kept: list[Ingredient] = field(default_factory=list)
    rest: list[Ingredient] = field(default_factory=list)
    incumbent: Verdict | None = None

    def begin(self, first: Ingredient, *rest: Ingredient) -> None:
        """Take the best single model as it is."""
        self.rest = list(rest)
        self._keep(first)
        line = recall_decision(self.judge, first.name)
        if line is not None:
            self.trace.recall(line)
            self.incumbent = verdict_of(line)
            return
        self.incumbent = self.judge(self.total.mean()) if first.known is None else first.known()
        reason = "the best single model by validation, taken as it is"
        self.trace.add(first.name, True, self.incumbent, self.incumbent.score, reason)

    def step(self) -> bool:
        """Decide on the next candidates until one joins; whether to go on."""
        if not self.rest:
            return False
        line = recall_decision(self.judge, self.rest[0].name)
        if line is not None:
            self._recall(line)
            return True
        assert self.incumbent is not None
        accept = self.rule.accept(self.incumbent)
        with closing(self._verdicts(tuple(self.rest), accept)) as verdicts:
            for verdict in verdicts:
                if self._decide(self.rest.pop(0), verdict, accept):
                    return True
        return False

    def _verdicts(self, rest: Sequence[Ingredient], accept: Accept) -> Generator[Verdict]:
        """Of one candidate after the other beside those kept, as far as the budget goes."""
        together = getattr(self.judge, "together", None)
        if together is not None:
            with closing(together(tuple(self.kept), rest, accept)) as verdicts:
                yield from verdicts
            return
        for candidate, following in zip_longest(rest, rest[1:]):
            if is_spent(self.judge):
                return
            yield self.judge(self.total.mean_with(candidate, following=following), accept)

    def _decide(self, candidate: Ingredient, verdict: Verdict, accept: Accept) -> bool:
        assert self.incumbent is not None
        accepted = verdict.complete and accept.allows(verdict)
        reason = explain_decision(verdict, self.incumbent, accept, accepted)
        self.trace.add(candidate.name, accepted, verdict, self.incumbent.score, reason, self.incumbent)
        if accepted:
            self._keep(candidate)
            self.incumbent = verdict
        return accepted

    def _recall(self, line: dict[str, Any]) -> None:
        self.trace.recall(line)
        candidate = self.rest.pop(0)
        if line["accepted"]:
            self._keep(candidate)
            self.incumbent = verdict_of(line)

    def _keep(self, ingredient: Ingredient) -> None:
        self.kept.append(ingredient)
        self.total.add(ingredient)


def _summary(decisions: list[dict[str, Any]], rule: AcceptanceRule) -> str:
    """What was kept, and where one model was kept, why: the same words however early the judge stopped."""
    kept = sum(decision["accepted"] for decision in decisions)
    text = f"kept {kept} of {len(decisions)}"
    if kept > 1 or len(decisions) == 1:
        return text
    first, others = decisions[0], decisions[1:]
    who = f"the one other, {others[0]['candidate']}," if len(others) == 1 else f"each of the {len(others)} others"
    return f"{text}: averaged with {first['candidate']}, {who} {rule.failed}"
