"""DARE against its formula."""

import numpy as np
import pytest

from soups.recipes.dare import random_generator
from soups.recipes.registry import RECIPES
from tests.recipes.task_vector_toys import SHAPES, by_hash, close, elect, judge, make_pool, mean_task, tasks_of


@pytest.mark.parametrize("combine", ["linear", "ties"])
@pytest.mark.parametrize("drop", [0.0, 0.4, 0.9])
def test_dare_drops_and_rescales(combine: str, drop: float) -> None:
    for seed in range(5):
        pool = make_pool(seed, 4)
        tasks = tasks_of(pool)
        for task, ingredient in zip(tasks, by_hash(pool), strict=True):
            for key, shape in SHAPES.items():
                gone = random_generator(3, ingredient.sha256, key).random(shape) < drop
                task[key] = np.where(gone, 0.0, task[key] / (1 - drop))
        expected = mean_task(tasks) if combine == "linear" else elect(tasks, 0.8)
        soup = RECIPES["dare"](pool, judge, drop=drop, combine=combine, density=0.8, seed=3, scale=1.0)
        close(soup, pool, expected)


def test_share_of_dropped_numbers_and_their_independence() -> None:
    base = random_generator(0, "aa", "w").random(10_000) < 0.9
    assert abs(base.mean() - 0.9) < 0.02  # Six standard deviations.
    for other in ((1, "aa", "w"), (0, "ab", "w"), (0, "aa", "v")):
        both = base & (random_generator(*other).random(10_000) < 0.9)
        assert abs(both.mean() - 0.81) < 0.025
