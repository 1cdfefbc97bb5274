"""Task arithmetic against its formula."""

import itertools

import pytest

from soups.recipes.registry import RECIPES
from tests.recipes.task_vector_toys import (
    SHAPES,
    close,
    judge,
    make_pool,
    tasks_of,
)


@pytest.mark.parametrize("number", [1, 2, 5])
def test_task_arithmetic_adds_the_sum(number: int) -> None:
    for seed, scale in itertools.product(range(5), (0.0, 0.1, 1.0)):
        pool = make_pool(seed, number)
        soup = RECIPES["task_arithmetic"](pool, judge, scale=scale)
        total = {key: sum(task[key] for task in tasks_of(pool)) for key in SHAPES}
        close(soup, pool, total, scale)
        assert soup.options == {"scale": scale}
    default = RECIPES["task_arithmetic"](pool, judge)
    assert default.decisions[0]["candidate"] == f"scale={1 / number:g}" and len(default.decisions) == 9
