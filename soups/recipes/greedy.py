"""The greedy soup: models join one by one, each only if the soup does not get worse."""

from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Any, Literal

from soups.core.errors import UsageError
from soups.recipes.shared.acceptance import AtLeast, ScoreThenLoss, Significant
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
from soups.recipes.shared.resume import recorded_decision, verdict_from_decision
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

    Candidates are tried by falling validation score (ties: lower log-loss, then name). The first is accepted, and its
    score (logged, or judged) is the one to reach; each further one joins for good if the mean of the soup so far and
    the candidate scores at least as well. The mean is over all ingredients with equal weights.

    A candidate is judged only until it is certain that it will not join; the selection is the same as with all images,
    and the same if the judge judges several candidates in parallel (`judge.judge_candidates`). The recipe respects a
    judge's budget and replays a record of an earlier run (`budget`, `resume`).

    In memory at a time: the float64 sum of the accepted ingredients, one ingredient and its candidate soup. While that
    is judged, the next ingredient's file is read ahead, if it is mapped. The final state is summed anew in canonical
    order, so its bits depend only on the selection.

    Args:
        pool: the ingredients, in any order.
        judge: judges each candidate soup.
        on_decision: called with each decision at once.
        accept: condition for joining: `equal` to the soup so far or better (Algorithm 1), `better` (the paper's own
            code), or `significant`: better by a paired gain of images with a p-value of at most `level`.
        level: significance level for `significant`, in (0, 1).
        ties: for `equal`, at equal scores: `accept`, or `log_loss`: accept if the log-loss does not rise.

    Raises:
        UsageError: an unknown option value, or one that has no meaning with the others.
        DataError: an ingredient does not fit the first, or holds NaN; names the ingredient and the tensor.
    """
    options: dict[str, Any] = {"accept": accept, "ties": ties}
    if accept == "significant":
        check_range("greedy: level", level, 0, 1, low_open=True, high_open=True)
        options["level"] = level
    rules: dict[tuple[str, str], Callable[[Verdict], Accept]] = {
        ("equal", "accept"): lambda incumbent: AtLeast(incumbent.score),
        ("equal", "log_loss"): lambda incumbent: ScoreThenLoss(incumbent.score, incumbent.log_loss),
        ("better", "accept"): lambda incumbent: AtLeast(incumbent.score, strict=True),
        ("significant", "accept"): lambda incumbent: Significant(incumbent, level),
    }
    if (accept, ties) not in rules:
        known = ", ".join(f"{one} with ties={other}" for one, other in rules)
        raise UsageError("greedy: accept", expected=f"one of {known}", found=f"{accept} with ties={ties}")
    rejection = {"equal": "fell short of", "better": "did not improve on"}.get(accept, "was not surely better than")
    rule = AcceptanceRule(rules[accept, ties], f"{rejection} its score")
    return grow_soup("greedy", pool, judge, on_decision, rule, options)


@dataclass(frozen=True)
class AcceptanceRule:
    """When a candidate joins a growing soup."""

    accept: Callable[[Verdict], Accept]
    """Returns what a candidate has to reach, from the incumbent's verdict."""
    rejection: str
    """Predicate for rejected candidates in the summary: "fell short of its score"."""


def grow_soup(
    recipe: str, pool: Pool, judge: Judge, on_decision: OnDecision | None, rule: AcceptanceRule, options: dict[str, Any]
) -> Soup:
    """Return the soup grown from the best ingredient by adding, best first, what the rule accepts; see `greedy`.

    Args:
        recipe: its name.
        pool: the ingredients.
        judge: judges each candidate.
        on_decision: called with each decision.
        rule: acceptance rule.
        options: the recipe's settings, for the soup.
    """
    with RunningSum() as total:
        selection = _GreedySelection(judge, rule, DecisionLog(on_decision), total)
        selection.begin(*best_first(pool.ingredients))
        while selection.step():
            pass
        members, untried = selection.members, [ingredient.name for ingredient in selection.candidates]
        ingredients = canonical_order(members)
        judged = total.mean()
    # If the order of joining is the canonical order, the judged mean already has the final bits.
    final = judged if list(ingredients) == members else mean_state(ingredients)
    assert selection.incumbent is not None
    return Soup(
        recipe=recipe,
        state=final,
        ingredients=ingredients,
        coefficients=(1 / len(members),) * len(members),
        score=selection.incumbent.score if equal_tensors(final, judged) else judge(final).score,
        decisions=tuple(selection.log.decisions),
        options={**options, **untried_option(untried)},
        summary=_summary(selection.log.decisions, rule) + untried_text(untried),
    )


@dataclass
class _GreedySelection:
    """State of a greedy selection."""

    judge: Judge
    rule: AcceptanceRule
    log: DecisionLog
    total: RunningSum
    members: list[Ingredient] = field(default_factory=list)
    candidates: list[Ingredient] = field(default_factory=list)
    incumbent: Verdict | None = None

    def begin(self, first: Ingredient, *rest: Ingredient) -> None:
        """Accept the best single model."""
        self.candidates = list(rest)
        self._add_member(first)
        line = recorded_decision(self.judge, first.name)
        if line is not None:
            self.log.add_recorded(line)
            self.incumbent = verdict_from_decision(line)
            return
        self.incumbent = self.judge(self.total.mean()) if first.known_verdict is None else first.known_verdict()
        reason = "the best single model by validation, taken as it is"
        self.log.add(first.name, True, self.incumbent, self.incumbent.score, reason)

    def step(self) -> bool:
        """Decide on candidates until one joins; return whether candidates are left."""
        if not self.candidates:
            return False
        line = recorded_decision(self.judge, self.candidates[0].name)
        if line is not None:
            self._replay(line)
            return True
        assert self.incumbent is not None
        accept = self.rule.accept(self.incumbent)
        with closing(self._verdicts(tuple(self.candidates), accept)) as verdicts:
            for verdict in verdicts:
                if self._decide(self.candidates.pop(0), verdict, accept):
                    return True
        return False

    def _verdicts(self, candidates: Sequence[Ingredient], accept: Accept) -> Generator[Verdict]:
        """Yield the verdict on each candidate's mean with the members, until the budget is spent."""
        judge_candidates = getattr(self.judge, "judge_candidates", None)
        if judge_candidates is not None:
            with closing(judge_candidates(tuple(self.members), candidates, accept)) as verdicts:
                yield from verdicts
            return
        for candidate, following in zip_longest(candidates, candidates[1:]):
            if is_spent(self.judge):
                return
            yield self.judge(self.total.mean_with(candidate, following=following), accept)

    def _decide(self, candidate: Ingredient, verdict: Verdict, accept: Accept) -> bool:
        assert self.incumbent is not None
        accepted = verdict.complete and accept.allows(verdict)
        reason = explain_decision(verdict, self.incumbent, accept, accepted)
        self.log.add(candidate.name, accepted, verdict, self.incumbent.score, reason, self.incumbent)
        if accepted:
            self._add_member(candidate)
            self.incumbent = verdict
        return accepted

    def _replay(self, line: dict[str, Any]) -> None:
        self.log.add_recorded(line)
        candidate = self.candidates.pop(0)
        if line["accepted"]:
            self._add_member(candidate)
            self.incumbent = verdict_from_decision(line)

    def _add_member(self, ingredient: Ingredient) -> None:
        self.members.append(ingredient)
        self.total.add(ingredient)


def _summary(decisions: list[dict[str, Any]], rule: AcceptanceRule) -> str:
    """Return how many models were selected and, if only one was, why; early stopping does not change the text."""
    kept = sum(decision["accepted"] for decision in decisions)
    text = f"kept {kept} of {len(decisions)}"
    if kept > 1 or len(decisions) == 1:
        return text
    first, others = decisions[0], decisions[1:]
    others_text = (
        f"the one other, {others[0]['candidate']}," if len(others) == 1 else f"each of the {len(others)} others"
    )
    return f"{text}: averaged with {first['candidate']}, {others_text} {rule.rejection}"
