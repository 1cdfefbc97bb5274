"""Parts of recipes that judge soups: the order by score, a sweep over values, a single judged soup, option checks."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from soups.core.errors import UsageError
from soups.recipes.shared.acceptance import AtLeast
from soups.recipes.shared.budget import finish_soup, is_spent
from soups.recipes.shared.decisions import DecisionLog
from soups.recipes.shared.pool import Ingredient, Judge, OnDecision, Soup, State, Verdict
from soups.recipes.shared.reasons import explain_stop

SCALES = (1.0, 0.75, 1.25, 0.5, 1.5, 0.25, 1.75, 2.0, 0.0)
"""Scales to try along a direction in which 1 is the plain mean; nearest to 1 first, because the first wins ties."""


@dataclass(frozen=True)
class SweepResult:
    """Result of a sweep."""

    value: float
    score: float | None = None
    """None: there was no judge."""
    decisions: tuple[dict[str, Any], ...] = ()
    untried: tuple[str, ...] = ()
    """Candidates (`alpha=0.3`) that were not judged because the budget was spent."""


def loss_then_name(ingredient: Ingredient) -> tuple[float, str]:
    """Return the key that sorts ingredients by log-loss, then name; those without a log-loss come last."""
    # Every comparison with NaN is False, so the order would depend on that of the input.
    return math.inf if math.isnan(ingredient.log_loss) else ingredient.log_loss, ingredient.name


def best_first(ingredients: Iterable[Ingredient]) -> list[Ingredient]:
    """Sort by falling validation score, then by log-loss and name; ingredients without a score come last."""

    def sort_key(ingredient: Ingredient) -> tuple[float, float, str]:
        return math.inf if math.isnan(ingredient.score) else -ingredient.score, *loss_then_name(ingredient)

    return sorted(ingredients, key=sort_key)


def sweep(
    name: str,
    candidates: Iterable[tuple[float, Callable[[], State]]],
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
    log, known, untried = DecisionLog(judge, on_decision), known or {}, []
    best: tuple[float, Verdict] | None = None
    for value, make in candidates:
        label = f"{name}={value:g}"
        if (recorded := log.replay(label)) is not None:
            accepted, verdict = recorded
        elif best is not None and value not in known and is_spent(judge):
            untried.append(label)
            continue
        else:
            # A score leads if it is above the best, or the best is NaN.
            lead = math.nan if best is None else best[1].score
            goal = None if judge_fully or math.isnan(lead) else AtLeast(lead, strict=not later_wins_ties)
            verdict = known[value]() if value in known else judge(make(), goal)
            leads = verdict.score > lead or (math.isnan(lead) and not math.isnan(verdict.score))
            tied = verdict.score == lead
            accepted = best is None or (verdict.complete and (leads or (tied and later_wins_ties)))
            if best is None:
                log.add(label, True, verdict, verdict.score, "the first that was tried")
            else:
                how = f"{'better than' if leads else 'as good as' if tied else 'worse than'} {name}={best[0]:g}"
                log.add(label, accepted, verdict, best[1], how if verdict.complete else explain_stop(verdict))
        best = (value, verdict) if accepted else best
    assert best is not None
    return SweepResult(best[0], best[1].score, tuple(log.decisions), tuple(untried))


def judge_finished(soup: Soup, judge: Judge | None, on_decision: OnDecision | None, candidate: str = "all") -> Soup:
    """Return a soup of a recipe that chooses nothing with its score and the decision on it.

    Args:
        soup: the finished soup.
        judge: None leaves the score open.
        on_decision: called with the decision.
        candidate: name of the soup in the log.
    """
    if judge is None:
        return soup
    log, best_single = DecisionLog(judge, on_decision), max(ingredient.score for ingredient in soup.ingredients)
    verdict = log.accept(candidate, lambda: judge(soup.state), "without choosing", best_single)
    return finish_soup(soup, verdict.score, log.decisions)


def values_to_try(where: str, fixed: float | None, values: Sequence[float]) -> tuple[float, ...]:
    """Return the values to try: only the fixed one if it is given.

    Raises:
        UsageError: no value, or one that is not finite.
    """
    chosen = tuple(float(value) for value in (values if fixed is None else (fixed,)))
    if not chosen or not all(math.isfinite(value) for value in chosen):
        raise UsageError(where, expected="at least one value, finite numbers", found=str(list(chosen)))
    return chosen


def check_range(where: str, value: float, interval: str) -> None:
    """Raise unless `value` lies in an interval such as `(0, 1]`, which includes 1 and excludes 0.

    Raises:
        UsageError: states the interval and the value; `where` names recipe and option.
    """
    low, high = map(float, interval[1:-1].split(","))
    above_low = value > low or (value == low and interval[0] == "[")
    # The comparisons are written so that NaN is out of range.
    if not (above_low and (value < high or (value == high and interval[-1] == "]"))):
        raise UsageError(where, expected=f"a number in {interval}", found=str(value))


def check_whole(where: str, value: float) -> None:
    """Raise a `UsageError` unless `value` is a whole number from 0 on; `where` names recipe and option."""
    if value < 0 or int(value) != value:
        raise UsageError(where, expected="a whole number from 0 on", found=str(value))
