"""What recipes that try several soups share: the order of merit, a sweep by validation, one judged soup."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from soups.core.errors import UsageError
from soups.recipes.shared.acceptance import AtLeast
from soups.recipes.shared.budget import is_spent
from soups.recipes.shared.pool import MEMORY, Ingredient, Judge, OnDecision, Verdict, decision_record
from soups.recipes.shared.reasons import count_gains, explain_stop
from soups.recipes.shared.resume import recall_decision, verdict_of

if TYPE_CHECKING:
    from soups.recipes.shared.pool import State

SCALES = (1.0, 0.75, 1.25, 0.5, 1.5, 0.25, 1.75, 2.0, 0.0)
"""How far to go along a direction in which 1 is the plain mean; nearest to 1 first, as the first wins ties."""


@dataclass(frozen=True)
class SweepResult:
    """The outcome of a sweep."""

    value: float
    score: float | None
    """None where there was no judge."""
    decisions: tuple[dict[str, Any], ...]
    untried: tuple[str, ...] = ()
    """Candidates (`alpha=0.3`) that the judge's budget left."""


class DecisionLog:
    """Keeps a recipe's decisions and hands each on as soon as it has fallen."""

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
        """One more decision; see `pool.decision_record`. `beaten` is the incumbent's verdict, for the counts;
        `memory` is what the recipe needs beside it, as plain JSON, to go on from here."""
        counts = None if beaten is None else count_gains(verdict, beaten)
        kept = {} if memory is None else {MEMORY: memory}
        self.decisions.append({**decision_record(candidate, accepted, verdict, incumbent, why, counts), **kept})
        if self.on_decision is not None:
            self.on_decision(self.decisions[-1])

    def recall(self, line: dict[str, Any]) -> None:
        """One more decision, that was on record already: nobody is told again."""
        self.decisions.append(line)


def best_first(ingredients: Iterable[Ingredient]) -> list[Ingredient]:
    """By falling validation score, ties by lower log-loss, then name; what has no score goes last."""

    def merit(ingredient: Ingredient) -> tuple[bool, float, bool, float, str]:
        # NaN compares with nothing and would make the order depend on the input's.
        no_score, no_loss = math.isnan(ingredient.score), math.isnan(ingredient.log_loss)
        score = 0.0 if no_score else -ingredient.score
        return no_score, score, no_loss, 0.0 if no_loss else ingredient.log_loss, ingredient.name

    return sorted(ingredients, key=merit)


def sweep(
    name: str,
    candidates: "Iterable[tuple[float, Callable[[], State]]]",
    judge: Judge,
    on_decision: OnDecision | None,
    *,
    later_wins_ties: bool = False,
    whole: bool = False,
    known: Mapping[float, Callable[[], Verdict]] | None = None,
) -> SweepResult:
    """Judge one soup after the other; the best score wins, and among equals the first (or the last).

    Each is judged only until it is certain that it will not take the lead, and none that the judge has on record;
    where the judge has a budget, it ends with that. Only the state being judged is in memory: the caller makes the
    winner's again.

    Args:
        name: what is swept, for the log (`alpha`).
        candidates: values and what makes their states (not called where no state is needed); taken one by one, so
            later ones may build on earlier ones.
        judge: weighs each.
        on_decision: called with each decision; `accepted` says that the candidate took the lead.
        later_wins_ties: among equal scores the last wins instead of the first.
        whole: judge each on all images, where the scores themselves are wanted (a curve).
        known: verdicts that need no judge.
    """
    trace, untried, given = DecisionLog(on_decision), [], known or {}
    best: tuple[float, Verdict] | None = None
    for value, make in candidates:
        label = f"{name}={value:g}"
        line = recall_decision(judge, label)
        if line is not None:
            trace.recall(line)
            best = (value, verdict_of(line)) if line["accepted"] else best
        elif best is not None and value not in given and is_spent(judge):
            untried.append(label)
        else:
            goal = None if whole or best is None else _lead(best[1].score, later_wins_ties)
            verdict = given[value]() if value in given else judge(make(), goal)
            best = _compared(trace, name, (value, verdict), best, later_wins_ties)
    assert best is not None
    return SweepResult(best[0], best[1].score, tuple(trace.decisions), tuple(untried))


def _lead(score: float, later_wins_ties: bool) -> AtLeast | None:
    """What takes the lead from a score; from one that is no number, anything does."""
    return None if math.isnan(score) else AtLeast(score, strict=not later_wins_ties)


def _compared(
    trace: DecisionLog,
    name: str,
    candidate: tuple[float, Verdict],
    best: tuple[float, Verdict] | None,
    later_wins_ties: bool,
) -> tuple[float, Verdict]:
    """The better of two values with their verdicts, told to the log."""
    value, verdict = candidate
    if best is None:
        trace.add(f"{name}={value:g}", True, verdict, verdict.score, "the first that was tried")
        return candidate
    lead = best[1].score
    leads = verdict.score > lead or (math.isnan(lead) and not math.isnan(verdict.score))
    tied = verdict.score == lead
    accepted = verdict.complete and (leads or (tied and later_wins_ties))
    how = f"{'better than' if leads else 'as good as' if tied else 'worse than'} {name}={best[0]:g}"
    why = how if verdict.complete else explain_stop(verdict)
    trace.add(f"{name}={value:g}", accepted, verdict, lead, why, best[1])
    return candidate if accepted else best


def judge_once(
    name: str, state: "State", judge: Judge | None, on_decision: OnDecision | None, best_single: float
) -> SweepResult:
    """The outcome where there is nothing to choose: the one soup's score, with its line in the log.

    Args:
        name: the soup, for the log.
        judge: None leaves the score open.
        best_single: score of the best ingredient, told as the incumbent.
    """
    if judge is None:
        return SweepResult(math.nan, None, ())
    trace = DecisionLog(on_decision)
    line = recall_decision(judge, name)
    if line is not None:
        trace.recall(line)
        return SweepResult(math.nan, verdict_of(line).score, tuple(trace.decisions))
    verdict = judge(state)
    trace.add(name, True, verdict, best_single, "without choosing")
    return SweepResult(math.nan, verdict.score, tuple(trace.decisions))


def swept_values(where: str, fixed: float | None, values: Sequence[float]) -> tuple[float, ...]:
    """The values to try: the fixed one alone where it is given.

    Raises:
        UsageError: there is none, or one is no finite number.
    """
    chosen = tuple(float(value) for value in (values if fixed is None else (fixed,)))
    if not chosen or not all(math.isfinite(value) for value in chosen):
        raise UsageError(where, expected="at least one value, finite numbers", found=str(list(chosen)))
    return chosen


def check_range(
    where: str, value: float, low: float, high: float, *, low_open: bool = False, below: bool = False
) -> None:
    """Raise unless `value` lies between `low` and `high`.

    Args:
        where: recipe and option, for the message.
        low_open: `low` itself is out.
        below: `high` itself is out.

    Raises:
        UsageError: says the range and the value.
    """
    # Written so that NaN is out.
    if (value > low or (value == low and not low_open)) and (value < high or (value == high and not below)):
        return
    left, right = "(" if low_open else "[", ")" if below else "]"
    raise UsageError(where, expected=f"a number in {left}{low:g}, {high:g}{right}", found=str(value))
