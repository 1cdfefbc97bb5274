"""Greedy soups on toy states against brute force, their decisions and summaries."""

import dataclasses
import json
import math
from collections.abc import Callable, Generator, Sequence
from fractions import Fraction
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch

from soups.recipes.greedy import greedy
from soups.recipes.greedy_log_loss import greedy_log_loss
from soups.recipes.shared.budget import BudgetedJudge
from soups.recipes.shared.decisions import pack_outcome
from soups.recipes.shared.pool import Accept, Ingredient, Pool, Soup, Verdict
from soups.weights.state_dict import WeightedSum

State = dict[str, torch.Tensor]


def mean_of(ingredients: Sequence[Ingredient]) -> list[Fraction]:
    columns = zip(*(ingredient.load()["w"].tolist() for ingredient in ingredients), strict=True)
    return [sum(map(Fraction, column)) / len(ingredients) for column in columns]


def chance(gained: int, lost: int) -> float:
    """Return the probability of at least `gained` heads."""
    tosses = gained + lost
    return sum(math.comb(tosses, heads) for heads in range(gained, tosses + 1)) / 2**tosses


def accepted(rule: str, new: Verdict, old: Verdict) -> bool:
    """Each rule in plain words."""
    if rule == "loss":
        return new.log_loss <= old.log_loss
    if rule == "ties" and new.score == old.score:
        return new.log_loss <= old.log_loss
    if rule == "significant":
        assert new.outcome is not None and old.outcome is not None
        gained, lost = int((new.outcome > old.outcome).sum()), int((new.outcome < old.outcome).sum())
        return new.score > old.score and chance(gained, lost) <= 0.3
    return new.score > old.score or (new.score == old.score and rule == "equal")


def brute_force(pool: Pool, judge: Callable[..., Verdict], rule: str, toys: Any) -> tuple[set[str], float]:
    """Algorithm 1 with exact fractions, and the order found by comparing every pair."""
    left, order = list(pool.ingredients), []
    while left:
        best = left[0]
        for other in left[1:]:
            worse = other.score < best.score
            tied = other.score == best.score
            if not worse and (not tied or (other.log_loss, other.name) < (best.log_loss, best.name)):
                best = other
        left.remove(best)
        order.append(best)
    soup, incumbent = [order[0]], judge(order[0].load())
    for candidate in order[1:]:
        verdict = judge(toys.state([float(value) for value in mean_of([*soup, candidate])]))
        if accepted(rule, verdict, incumbent):
            soup.append(candidate)
            incumbent = verdict
    return {ingredient.name for ingredient in soup}, incumbent.score


RULES: dict[str, Callable[..., Soup]] = {
    "equal": partial(greedy, accept="equal"),
    "better": partial(greedy, accept="better"),
    "significant": partial(greedy, accept="significant", level=0.3),
    "ties": greedy,
    "loss": greedy_log_loss,
}


@pytest.mark.parametrize("rule", sorted(RULES))
def test_greedy_equals_brute_force_on_many_tiny_pools(rule: str, toys: Any) -> None:
    sizes = set()
    for seed in range(120):
        pool, judge = toys.pool(seed)
        names, score = brute_force(pool, judge, rule, toys)
        soup, whole = RULES[rule](pool, judge), RULES[rule](pool, toys.unhurried(judge))
        assert whole.ingredients == soup.ingredients and whole.summary == soup.summary
        assert ({ingredient.name for ingredient in soup.ingredients}, soup.score) == (names, score), seed
        exact = [float(value) for value in mean_of(soup.ingredients)]
        np.testing.assert_allclose(soup.state["w"].numpy(), exact, rtol=1e-6, atol=1e-7)
        assert soup.score == judge(soup.state).score
        assert rule == "loss" or soup.score >= max(ingredient.score for ingredient in pool.ingredients)
        assert soup.coefficients == pytest.approx([1 / len(names)] * len(names))
        for line in soup.decisions:
            assert json.loads(json.dumps(line, allow_nan=False)) == line
        sizes.add(len(names))
    assert len(sizes) > 1 + (rule != "significant")  # The pools do exercise more than one outcome.


def test_equal_scores_are_ordered_by_log_loss_then_name(toys: Any) -> None:
    same = [0.0] * toys.images
    pool = Pool(
        (
            toys.named("b", same, toys.zero, 0.5),
            toys.named("c", same, toys.zero, 0.2),
            toys.named("a", same, toys.zero, 0.5),
        )
    )
    soup = greedy(pool, toys.zero)
    assert [decision["candidate"] for decision in soup.decisions] == ["c", "a", "b"]
    assert [decision["accepted"] for decision in soup.decisions] == [True, True, True]
    assert [d["accepted"] for d in greedy(pool, toys.zero, accept="better").decisions] == [True, False, False]


def test_each_decision_is_passed_on_when_it_is_made(toys: Any) -> None:
    one, two = [0.0] * 5 + [1.0], [9.0, 9.0] + [0.0] * 3 + [-1.0]  # The mean's last weight is right.
    seen: list[dict] = []
    pool = Pool(
        (
            toys.named("one", one, toys.zero),
            toys.named("two", two, toys.zero),
            toys.named("three", [0.0] * 4 + [0.9, -0.9], toys.zero),
        )
    )
    soup = greedy(pool, toys.zero, on_decision=seen.append)
    assert tuple(seen) == soup.decisions
    assert seen == [
        {
            "candidate": "one",
            "accepted": True,
            "score": 5 / 6,
            "incumbent": 5 / 6,
            "errors": 1,
            "images": 6,
            "complete": True,
            "gained": None,
            "lost": None,
            "log_loss": 1 / 6,
            "why": "the best single model by validation, taken as it is",
            "outcome": pack_outcome(np.array([1, 1, 1, 1, 1, 0])),
        },
        {
            "candidate": "three",
            "accepted": True,
            "score": 1.0,
            "incumbent": 5 / 6,
            "errors": 0,
            "images": 6,
            "complete": True,
            "gained": 1,
            "lost": 0,
            "log_loss": 0.0,
            "why": "better with it by 1 image",
            "outcome": pack_outcome(np.ones(6)),
        },
        {
            "candidate": "two",
            "accepted": False,
            "score": 5 / 6,  # The best that was still possible.
            "incumbent": 1.0,
            "errors": 1,
            "images": 1,
            "complete": False,
            "gained": 0,
            "lost": 1,
            "log_loss": 3 / 6,
            "why": "out of reach after 1 image, 1 of them wrong",
            "outcome": None,
        },
    ]
    assert soup.summary == "kept 2 of 3"


def test_the_summary_of_a_soup_of_one_model_says_why(toys: Any) -> None:
    best, far = toys.named("best", [0.0] * toys.images, toys.zero), toys.named("far", [0.0] * 4 + [9.0, 9.0], toys.zero)
    further = toys.named("further", [0.0] + [9.0] * 5, toys.zero)
    for judge in (toys.zero, toys.unhurried(toys.zero)):
        soup = greedy(Pool((far, further, best)), judge)
        reason = "fell short of its score or, at the same score, raised its log-loss"
        assert soup.summary == f"kept 1 of 3: averaged with best, each of the 2 others {reason}"
        by_score = greedy(Pool((far, further, best)), judge, accept="equal").summary
        assert by_score == "kept 1 of 3: averaged with best, each of the 2 others fell short of its score"
        assert torch.equal(soup.state["w"], best.load()["w"])
        alone = greedy(Pool((far, best)), judge).summary
        assert alone == f"kept 1 of 2: averaged with best, the one other, far, {reason}"
        twin = toys.named("twin", [0.0] * toys.images, toys.zero)
        assert greedy(Pool((best, twin)), judge, accept="better").summary.endswith("twin, did not improve on its score")
        assert greedy(Pool((best,)), judge).summary == "kept 1 of 1"


def test_the_gap_of_other_metrics_is_in_the_score(toys: Any) -> None:
    def judge(state: State, accept: Accept | None = None) -> Verdict:
        return Verdict(-float(state["w"].abs().mean()), 0, toys.images)

    pool = Pool((toys.named("a", [0.0] * toys.images, judge), toys.named("b", [1.0] * toys.images, judge)))
    assert greedy(pool, judge).decisions[1]["why"] == "worse with it by 0.5 in the score"


class ToyParallelJudge:
    """A judge of several candidates: it yields verdicts one by one and counts them."""

    def __init__(self, judge: Callable[..., Verdict], width: int) -> None:
        self.judge, self.width, self.given, self.closed = judge, width, 0, 0

    def __call__(self, state: State, accept: Accept | None = None) -> Verdict:
        return self.judge(state, accept)

    def judge_candidates(
        self, kept: Sequence[Ingredient], candidates: Sequence[Ingredient], accept: Accept
    ) -> Generator[Verdict]:
        try:
            for candidate in candidates:
                total = WeightedSum()
                for ingredient in kept:
                    total.add(ingredient.load())
                self.given += 1
                yield self.judge(total.mean_with(candidate.load()), accept)
        finally:
            self.closed += 1


@pytest.mark.parametrize("rule", sorted(RULES))
def test_judging_in_parallel_gives_the_same_soup(rule: str, toys: Any) -> None:
    for seed in range(40):
        pool, judge = toys.pool(seed)
        serial, parallel = RULES[rule](pool, judge), ToyParallelJudge(judge, 3)
        soup = RULES[rule](pool, parallel)
        assert (soup.decisions, soup.ingredients, soup.score) == (serial.decisions, serial.ingredients, serial.score)
        assert all(torch.equal(soup.state[key], serial.state[key]) for key in soup.state)
        assert parallel.given == len(pool.ingredients) - 1
        for evaluations in range(1, len(serial.decisions) + 1):
            budgeted = RULES[rule](pool, BudgetedJudge(ToyParallelJudge(judge, 3), evaluations))
            assert budgeted.decisions == serial.decisions[:evaluations]


def test_known_verdicts_are_taken_from_the_logs(toys: Any) -> None:
    for seed in range(30):
        pool, judge = toys.pool(seed)
        judged: list[State] = []

        def recording(state: State, accept: Accept | None = None, judge: Any = judge, judged: Any = judged) -> Verdict:
            judged.append(state)
            return judge(state, accept)

        known = Pool(
            tuple(
                dataclasses.replace(i, known_verdict=lambda i=i, judge=judge: judge(i.load())) for i in pool.ingredients
            )
        )
        for rule in RULES.values():
            judged.clear()
            soup = rule(known, recording)
            assert soup.decisions == rule(pool, judge).decisions
            assert len(judged) <= len(pool.ingredients)  # All but the first; the soup once more where bits are new.
