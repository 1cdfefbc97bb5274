"""Soups made again from the options on their cards: the same bits, without judging."""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch

from soups.core.errors import DataError
from soups.recipes.registry import RECIPES
from soups.recipes.shared.pool import Accept, Ingredient, Pool, Verdict
from soups.recipes.shared.remake import remake

State = dict[str, torch.Tensor]
GOAL = 0.4
OPTIONS: list[tuple[str, dict[str, Any]]] = [
    *((name, {}) for name in RECIPES),
    ("ties", {"density": 0.5, "scale": 0.7}),
    ("dare", {"combine": "ties", "density": 0.6, "seed": 3}),
    ("top_k", {"k": 2}),
    ("slerp", {"fraction": 0.3}),
    ("learned", {"per": "tensor", "steps": 3}),
]


class Toy:
    """Scores by the distance to one point, with gradients and Fisher information."""

    def __call__(self, state: Mapping[str, torch.Tensor], accept: Accept | None = None) -> Verdict:
        loss = float(sum((state[key].double() - GOAL).square().mean() for key in ("a", "b")))
        errors = min(20, int(loss * 10))
        return Verdict(1 - errors / 20, errors, 20, True, loss, np.arange(20) >= errors)

    def gradient(self, state: State, seed: int) -> tuple[float, State]:
        return self(state).log_loss, {key: 2 * (state[key] - GOAL) / state[key].numel() for key in ("a", "b")}

    def fisher(self, state: State, seed: int) -> State:
        return {key: state[key].square() + 0.1 for key in ("a", "b")}


def make_pool(number: int) -> Pool:
    def state(index: int) -> State:
        rng = np.random.default_rng(index)
        tensors = {key: torch.tensor(rng.normal(size=size), dtype=torch.float32) for key, size in SIZES.items()}
        return {**tensors, "n": torch.tensor(index)}

    toy = Toy()
    parts = []
    for index in range(number):
        verdict = toy(state(index))
        load = lambda index=index: state(index)  # noqa: E731
        parts.append(
            Ingredient(
                f"m{index}", f"{7 - index}f", verdict.score, verdict.log_loss, load, mapped=True, known_verdict=None
            )
        )
    return Pool(tuple(parts), Ingredient("start", "00", 0.1, 2.0, lambda: state(99), mapped=True))


SIZES = {"a": (4, 5), "b": (7,)}


@pytest.mark.parametrize(("recipe", "options"), OPTIONS)
def test_remaking_gives_the_same_bits(recipe: str, options: dict[str, Any]) -> None:
    pool = make_pool(2 if recipe == "slerp" else 5)
    soup = RECIPES[recipe](pool, Toy(), **options)
    options = json.loads(json.dumps({**soup.options, "batchnorm": {"statistics": "average"}}))
    unscored = tuple(
        Ingredient(part.name, part.sha256, float("nan"), float("nan"), part.load, part.mapped)
        for part in soup.ingredients
    )
    judge = Toy() if RECIPES[recipe].remakes_with_judge else None
    again = remake(recipe, unscored, soup.coefficients, options, start=pool.start, judge=judge)
    assert again.keys() == soup.state.keys()
    assert all(torch.equal(again[key], soup.state[key]) for key in again)


def test_an_unknown_recipe_lists_the_known_ones() -> None:
    pool = make_pool(2)
    with pytest.raises(DataError, match=r"recipe 'minestrone', which is not known here(?s:.*)uniform, greedy"):
        remake("minestrone", pool.ingredients, (0.5, 0.5), {})


def test_a_missing_start_is_an_error() -> None:
    with pytest.raises(DataError, match="wise_ft: the file of the models' common start is missing"):
        remake("wise_ft", make_pool(2).ingredients, (0.5, 0.5), {"alpha": 0.5})
