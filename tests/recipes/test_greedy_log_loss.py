"""The greedy soup on log-loss: acceptance does not look at the score; brute force is in `test_greedy.py`."""

import torch

from soups.recipes.greedy import greedy
from soups.recipes.greedy_log_loss import greedy_log_loss
from soups.recipes.shared.pool import Accept, Ingredient, Pool, Verdict

State = dict[str, torch.Tensor]


def judge(state: State, accept: Accept | None = None) -> Verdict:
    """The log-loss is the distance to 0; the score falls where the log-loss does."""
    loss = float(state["w"].abs())
    return Verdict(min(1.0, loss / 4), 4 - min(4, round(loss)), 4, log_loss=loss)


def ingredient(name: str, value: float) -> Ingredient:
    state = {"w": torch.tensor(value)}
    return Ingredient(name, name, judge(state).score, judge(state).log_loss, lambda: state)


def test_a_model_joins_if_the_log_loss_does_not_rise_whatever_the_score() -> None:
    pool = Pool((ingredient("a", 4.0), ingredient("b", -2.0), ingredient("c", 1.5)))
    soup = greedy_log_loss(pool, judge)
    assert [part.name for part in soup.ingredients] == ["a", "b"]
    assert [line["accepted"] for line in soup.decisions] == [True, True, False]
    assert soup.state["w"] == 1.0 and soup.score == 0.25
    assert soup.recipe == "greedy_log_loss" and soup.options == {} and soup.summary == "kept 2 of 3"
    assert [part.name for part in greedy(pool, judge).ingredients] == ["a"]
