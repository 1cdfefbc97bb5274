"""Budgets: the decisions within one, and the candidates left untried."""

from typing import Any

import pytest

from soups.core.errors import UsageError
from soups.recipes.registry import RECIPES
from soups.recipes.shared.budget import BudgetedJudge, is_spent
from soups.recipes.shared.pool import Pool, Verdict


class Counting:
    """A judge that counts its verdicts, with an attribute of its own."""

    def __init__(self, judge: Any) -> None:
        self.judge, self.calls, self.width = judge, 0, 7

    def __call__(self, state: Any, accept: Any = None) -> Verdict:
        self.calls += 1
        return self.judge(state, accept)


@pytest.mark.parametrize("name", ["greedy", "greedy_log_loss", "pruned", "top_k"])
def test_the_decisions_within_a_budget_are_those_without_one(name: str, toys: Any) -> None:
    cut = 0
    for seed in range(20):
        pool, judge = toys.pool(seed)
        whole = RECIPES[name](pool, judge)
        for evaluations in range(len(whole.decisions) + 2):
            counting = Counting(judge)
            soup = RECIPES[name](pool, BudgetedJudge(counting, evaluations))
            count = max(1, min(evaluations, len(whole.decisions)))  # The first is always taken.
            assert soup.decisions == whole.decisions[:count], (seed, evaluations)
            assert counting.calls <= count + 1  # The finished soup once more, where its bits are new.
            assert soup.score == judge(soup.state).score
            left = soup.options.get("untried", [])
            assert bool(left) == ("the budget was spent" in soup.summary)
            if count == len(whole.decisions):
                assert not left and soup.summary == whole.summary and soup.options == whole.options
            elif name != "pruned":  # It would not have tried them all.
                assert left == [line["candidate"] for line in whole.decisions[count:]]
                assert f"; {len(left)} more w" in soup.summary
                cut += 1
            else:
                assert whole.decisions[count]["candidate"] in left
                cut += 1
    assert cut > 25


def test_time_runs_out_between_verdicts(toys: Any) -> None:
    pool = Pool(tuple(toys.named(letter, [0.0] * toys.images, toys.zero) for letter in "abcd"))
    now = [0.0]

    def slow(state: Any, accept: Any = None) -> Verdict:
        now[0] += 40
        return toys.zero(state, accept)

    soup = RECIPES["greedy"](pool, BudgetedJudge(slow, minutes=1, clock=lambda: now[0]))
    assert [line["candidate"] for line in soup.decisions] == ["a", "b"] and soup.options["untried"] == ["c", "d"]
    assert soup.summary == "kept 2 of 2; 2 more were not tried, the budget was spent"
    assert RECIPES["greedy"](pool, BudgetedJudge(slow, minutes=0, clock=lambda: now[0])).options["untried"] == [
        "b",
        "c",
        "d",
    ]


def test_known_verdicts_do_not_count(toys: Any) -> None:
    from dataclasses import replace

    pool, judge = toys.pool(3)
    known = Pool(tuple(replace(part, known_verdict=lambda part=part: judge(part.load())) for part in pool.ingredients))
    assert len(pool.ingredients) > 2
    for name in ("greedy", "greedy_log_loss", "top_k"):
        counting = Counting(judge)
        soup = RECIPES[name](known, BudgetedJudge(counting, 1))
        assert len(soup.decisions) == 2 and len(soup.options["untried"]) == len(pool.ingredients) - 2
        assert RECIPES[name](known, BudgetedJudge(counting, 0)).decisions == soup.decisions[:1]


def test_other_attributes_of_the_judge_are_forwarded(toys: Any) -> None:
    budgeted = BudgetedJudge(Counting(toys.zero), 1)
    assert budgeted.width == 7 and not hasattr(budgeted, "gradient") and not hasattr(budgeted, "judge_candidates")
    assert not is_spent(budgeted) and not is_spent(toys.zero)
    budgeted(toys.state([0.0] * toys.images))
    assert is_spent(budgeted)


def test_a_negative_budget_is_an_error(toys: Any) -> None:
    with pytest.raises(UsageError, match=r"budget: minutes(?s:.*)from 0 on(?s:.*)-1"):
        BudgetedJudge(toys.zero, minutes=-1)
    with pytest.raises(UsageError, match="budget: evaluations"):
        BudgetedJudge(toys.zero, evaluations=-2)
