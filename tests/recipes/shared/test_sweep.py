"""The order by score, sweeps over values, and checks of options."""

import itertools
import math
from collections.abc import Iterator
from typing import Any

import pytest

from soups.core.errors import UsageError
from soups.recipes.greedy import greedy
from soups.recipes.shared.budget import BudgetedJudge
from soups.recipes.shared.pool import Accept, Ingredient, Pool, Soup, Verdict
from soups.recipes.shared.sweep import check_range, check_whole, judge_finished, sweep, values_to_try

SCORES = {1.0: 0.5, 2.0: 0.7, 3.0: 0.6, 4.0: 0.7}


def judge(state: Any, accept: Accept | None = None) -> Verdict:
    """The state is the value itself; stops where rejection is certain."""
    verdict = Verdict(SCORES[state], 10 - round(10 * SCORES[state]), 10)
    return Verdict(verdict.score, 1, 1, False) if accept is not None and not accept.allows(verdict) else verdict


def candidates() -> Iterator[tuple[float, Any]]:
    for value in SCORES:
        yield value, lambda value=value: value


@pytest.mark.parametrize(("later_wins_ties", "best", "accepted"), [(False, 2, "1 2"), (True, 4, "1 2 4")])
def test_the_best_score_wins_and_ties_go_to_the_first_or_the_last(
    later_wins_ties: bool, best: float, accepted: str
) -> None:
    written: list[dict] = []
    result = sweep("k", candidates(), judge, written.append, later_wins_ties=later_wins_ties)
    assert (result.value, result.score, result.untried) == (best, 0.7, ())
    assert tuple(written) == result.decisions
    assert [line["candidate"] for line in written if line["accepted"]] == [f"k={value}" for value in accepted.split()]
    assert written[2]["why"] == "out of reach after 1 image, 1 of them wrong" and not written[2]["complete"]


def test_judging_fully_gives_the_scores_themselves() -> None:
    lines = sweep("k", candidates(), judge, None, judge_fully=True).decisions
    assert [line["score"] for line in lines] == list(SCORES.values()) and all(line["complete"] for line in lines)
    reasons = ["the first that was tried", "better than k=1", "worse than k=2", "as good as k=2"]
    assert [line["why"] for line in lines] == reasons


def test_a_sweep_ends_with_the_budget_but_takes_known_verdicts() -> None:
    known = {3.0: lambda: Verdict(0.9, 1, 10)}
    result = sweep("k", candidates(), BudgetedJudge(judge, 1), None, known=known)
    assert (result.value, result.score, result.untried) == (3.0, 0.9, ("k=2", "k=4"))


def test_a_score_leads_where_the_best_is_not_a_number() -> None:
    scores = iter([math.nan, math.nan, 0.1])
    result = sweep("k", itertools.islice(candidates(), 3), lambda *_: Verdict(next(scores), 0, 1), None)
    assert result.value == 3.0 and [line["accepted"] for line in result.decisions] == [True, False, True]


def test_a_finished_soup_is_judged_once_or_not_at_all(toys: Any) -> None:
    pool, toy_judge = toys.pool(3)
    soup = Soup("uniform", pool.ingredients[0].load(), pool.ingredients, ())
    assert judge_finished(soup, None, None) is soup
    judged = judge_finished(soup, toy_judge, None, "k=2")
    assert judged.score == toy_judge(soup.state).score and [line["candidate"] for line in judged.decisions] == ["k=2"]
    assert judged.decisions[0]["incumbent"] == max(ingredient.score for ingredient in pool.ingredients)


def test_ingredients_without_a_score_come_last_in_every_order(toys: Any) -> None:
    good, bad = toys.named("a", [0.0] * toys.images, toys.zero), toys.named("b", [9.0] * toys.images, toys.zero)
    broken = Ingredient("c", "hash of c", float("nan"), float("nan"), bad.load)
    for order in itertools.permutations((good, bad, broken)):
        assert [decision["candidate"] for decision in greedy(Pool(order), toys.zero).decisions] == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("interval", "inside", "outside"),
    [
        ("[0, 1]", [0, 0.5, 1], [-0.1, 1.1, math.nan]),
        ("(0, 1)", [0.5], [0, 1, math.nan]),
        ("(0, inf)", [1e-9, 1e9], [0, math.inf, -1]),
    ],
)
def test_values_outside_an_interval_are_errors(interval: str, inside: list[float], outside: list[float]) -> None:
    for value in inside:
        check_range("ties: density", value, interval)
    for value in outside:
        with pytest.raises(UsageError) as error:
            check_range("ties: density", value, interval)
        assert str(error.value).startswith("ties: density") and interval in str(error.value)


def test_whole_numbers_and_values_to_try() -> None:
    check_whole("learned: seed", 0)
    for value in (-1, 1.5):
        with pytest.raises(UsageError, match=r"learned: seed(?s:.*)a whole number from 0 on"):
            check_whole("learned: seed", value)
    assert values_to_try("ties: scale", None, (1, 2)) == (1.0, 2.0) and values_to_try("ties: scale", 3, (1, 2)) == (
        3.0,
    )
    for values in ((), (math.inf,)):
        with pytest.raises(UsageError, match=r"ties: scale(?s:.*)at least one value, finite numbers"):
            values_to_try("ties: scale", None, values)
