"""Parts of recipes that judge several soups: the order by score, the decision log, a sweep, a single judged soup."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from soups.core.errors import UsageError
from soups.recipes.shared.acceptance import AtLeast
from soups.recipes.shared.budget import is_spent
from soups.recipes.shared.pool import MEMORY_KEY, Ingredient, Judge, OnDecision, Verdict, decision_record
from soups.recipes.shared.reasons import count_gains, explain_stop
from soups.recipes.shared.resume import recorded_decision, verdict_from_decision

if TYPE_CHECKING:
    from soups.recipes.shared.pool import State

SCALES = (1.0, 0.75, 1.25, 0.5, 1.5, 0.25, 1.75, 2.0, 0.0)
"""Scales to try along a direction in which 1 is the plain mean; nearest to 1 first, because the first wins ties."""


@dataclass(frozen=True)
class SweepResult:
    """Result of a sweep."""

    value: float
    score: float | None
    """None: there was no judge."""
    decisions: tuple[dict[str, Any], ...]
    untried: tuple[str, ...] = ()
    """Candidates (`alpha=0.3`) that were not judged because the budget was spent."""


class DecisionLog:
    """Collects a recipe's decision records and passes each to `on_decision`."""

    def __init__(self, on_decision: OnDecision | None) -> None:
        self.decisions: list[dict[str, Any]] = []
        self.on_decision = on_decision

    def add(
        self,
        candidate: str,
        accepted: bool,
        verdict: Verdict,
        incumbent: float,
        why: str,
        beaten: Verdict | None = None,
        memory: Any = None,
    ) -> None:
        """Add a decision; see `pool.decision_record`.

        Args:
            candidate: name.
            accepted: whether the candidate was accepted.
            verdict: of the soup with the candidate.
            incumbent: score of the incumbent.
            why: reason in words.
            beaten: the incumbent's verdict, from which gained and lost images are counted.
            memory: the recipe's own state as plain JSON, from which a later run resumes.
        """
        counts = None if beaten is None else count_gains(verdict, beaten)
        extra = {} if memory is None else {MEMORY_KEY: memory}
        self.decisions.append({**decision_record(candidate, accepted, verdict, incumbent, why, counts), **extra})
        if self.on_decision is not None:
            self.on_decision(self.decisions[-1])

    def add_recorded(self, line: dict[str, Any]) -> None:
        """Add a decision of an earlier run, without a call of `on_decision`."""
        self.decisions.append(line)


def best_first(ingredients: Iterable[Ingredient]) -> list[Ingredient]:
    """Sort by falling validation score, then by log-loss and name; ingredients without a score come last."""

    def sort_key(ingredient: Ingredient) -> tuple[bool, float, bool, float, str]:
        # Every comparison with NaN is False, so the order would depend on that of the input.
        no_score, no_loss = math.isnan(ingredient.score), math.isnan(ingredient.log_loss)
        score = 0.0 if no_score else -ingredient.score
        return no_score, score, no_loss, 0.0 if no_loss else ingredient.log_loss, ingredient.name

    return sorted(ingredients, key=sort_key)


def sweep(
    name: str,
    candidates: "Iterable[tuple[float, Callable[[], State]]]",
    judge: Judge,
    on_decision: OnDecision | None,
    *,
    later_wins_ties: bool = False,
    judge_fully: bool = False,
    known: Mapping[float, Callable[[], Verdict]] | None = None,
) -> SweepResult:
    """Judge soups one after the other; the best score wins, and of equal scores the first (or the last).

    Each is judged only until it is certain that it cannot take the lead, and not at all if the judge has a recorded
    decision on it. The sweep ends when the judge's budget is spent. Only the state being judged is in memory: the
    caller builds the winner's again.

    Args:
        name: of the swept option, for the log (`alpha`).
        candidates: values with functions that build their states (called only if the state is needed). They are taken
            one by one, so later ones may build on earlier ones.
        judge: judges each.
        on_decision: called with each decision; `accepted` says that the candidate took the lead.
        later_wins_ties: of equal scores, the last wins instead of the first.
        judge_fully: judge each on all images, for callers that need the scores themselves (a curve).
        known: value → function that returns a verdict, for values that need no judge.
    """
    log, untried, known = DecisionLog(on_decision), [], known or {}
    best: tuple[float, Verdict] | None = None
    for value, make in candidates:
        label = f"{name}={value:g}"
        line = recorded_decision(judge, label)
        if line is not None:
            log.add_recorded(line)
            best = (value, verdict_from_decision(line)) if line["accepted"] else best
        elif best is not None and value not in known and is_spent(judge):
            untried.append(label)
        else:
            goal = None if judge_fully or best is None else _rule_to_lead(best[1].score, later_wins_ties)
            verdict = known[value]() if value in known else judge(make(), goal)
            best = _compare_with_best(log, name, (value, verdict), best, later_wins_ties)
    assert best is not None
    return SweepResult(best[0], best[1].score, tuple(log.decisions), tuple(untried))


def _rule_to_lead(score: float, later_wins_ties: bool) -> AtLeast | None:
    """Return the rule for taking the lead from a score; None (any score leads) if the score is NaN."""
    return None if math.isnan(score) else AtLeast(score, strict=not later_wins_ties)


def _compare_with_best(
    log: DecisionLog,
    name: str,
    candidate: tuple[float, Verdict],
    best: tuple[float, Verdict] | None,
    later_wins_ties: bool,
) -> tuple[float, Verdict]:
    """Add the decision to the log and return the better of two values with their verdicts."""
    value, verdict = candidate
    if best is None:
        log.add(f"{name}={value:g}", True, verdict, verdict.score, "the first that was tried")
        return candidate
    lead = best[1].score
    leads = verdict.score > lead or (math.isnan(lead) and not math.isnan(verdict.score))
    tied = verdict.score == lead
    accepted = verdict.complete and (leads or (tied and later_wins_ties))
    how = f"{'better than' if leads else 'as good as' if tied else 'worse than'} {name}={best[0]:g}"
    why = how if verdict.complete else explain_stop(verdict)
    log.add(f"{name}={value:g}", accepted, verdict, lead, why, best[1])
    return candidate if accepted else best


def judge_once(
    name: str, state: "State", judge: Judge | None, on_decision: OnDecision | None, best_single: float
) -> SweepResult:
    """Judge a single soup and log it, for recipes that choose nothing.

    Args:
        name: of the soup, for the log.
        state: its weights.
        judge: None leaves the score open.
        on_decision: called with the decision.
        best_single: score of the best ingredient, logged as the incumbent.
    """
    if judge is None:
        return SweepResult(math.nan, None, ())
    log = DecisionLog(on_decision)
    line = recorded_decision(judge, name)
    if line is not None:
        log.add_recorded(line)
        return SweepResult(math.nan, verdict_from_decision(line).score, tuple(log.decisions))
    verdict = judge(state)
    log.add(name, True, verdict, best_single, "without choosing")
    return SweepResult(math.nan, verdict.score, tuple(log.decisions))


def values_to_try(where: str, fixed: float | None, values: Sequence[float]) -> tuple[float, ...]:
    """Return the values to try: only the fixed one if it is given.

    Raises:
        UsageError: no value, or one that is not finite.
    """
    chosen = tuple(float(value) for value in (values if fixed is None else (fixed,)))
    if not chosen or not all(math.isfinite(value) for value in chosen):
        raise UsageError(where, expected="at least one value, finite numbers", found=str(list(chosen)))
    return chosen


def check_range(
    where: str, value: float, low: float, high: float, *, low_open: bool = False, high_open: bool = False
) -> None:
    """Raise unless `value` lies between `low` and `high`.

    Args:
        where: recipe and option, for the message.
        value: the option's value.
        low: lower bound.
        high: upper bound.
        low_open: exclude `low` itself.
        high_open: exclude `high` itself.

    Raises:
        UsageError: states the range and the value.
    """
    # The comparisons are written so that NaN is out of range.
    if (value > low or (value == low and not low_open)) and (value < high or (value == high and not high_open)):
        return
    left, right = "(" if low_open else "[", ")" if high_open else "]"
    raise UsageError(where, expected=f"a number in {left}{low:g}, {high:g}{right}", found=str(value))
