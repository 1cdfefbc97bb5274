"""Model Stock against its formula."""

import itertools

import numpy as np
import pytest
import torch

from soups.core.errors import DataError
from soups.recipes.registry import RECIPES
from soups.recipes.shared.pool import Ingredient, Pool, Verdict
from tests.recipes.task_vector_toys import SHAPES, close, judge, make_pool, mean_task, tasks_of


@pytest.mark.parametrize("number", [2, 3, 6])
def test_model_stock_follows_the_angles(number: int) -> None:
    ratios = []
    for seed in range(8):
        pool = make_pool(seed, number)
        tasks, direction = tasks_of(pool), mean_task(tasks_of(pool))
        for key in SHAPES:
            cosines = []
            for one, other in itertools.combinations(tasks, 2):
                a, b = one[key].ravel(), other[key].ravel()
                cosines.append(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))
            cosine = np.mean(cosines)
            ratio = number * cosine / (1 + (number - 1) * cosine) if cosine > 0 else 0.0
            ratios.append(1.0 if direction[key].size == 1 else ratio)
            direction[key] = direction[key] * ratios[-1]
        close(RECIPES["model_stock"](pool, judge), pool, direction)
    assert any(0 < ratio < 1 for ratio in ratios) and 0.0 in ratios


def test_model_stock_of_tensors_that_did_not_move_or_went_opposite_ways() -> None:
    start = {"still": torch.ones(3), "apart": torch.zeros(2)}
    states = [{"still": torch.ones(3), "apart": torch.tensor(side)} for side in ([1.0, 1.0], [-1.0, -2.0])]
    parts = tuple(Ingredient(f"m{i}", f"{i}", 0.5, 1.0, lambda s=s: s) for i, s in enumerate(states))
    pool = Pool(parts, Ingredient("start", "s", 0.5, 1.0, lambda: start))
    state = RECIPES["model_stock"](pool, lambda state, accept=None: Verdict(1.0, 0, 1)).state
    assert all(torch.equal(state[key], start[key]) for key in start)


def test_model_stock_needs_two() -> None:
    with pytest.raises(DataError, match=r"model_stock: the number of models(?s:.*)2 models or more(?s:.*)found: +1"):
        RECIPES["model_stock"](make_pool(0, 1), judge)
