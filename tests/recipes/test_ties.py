"""TIES against Algorithm 1 of its paper, number by number."""

import sys

import numpy as np
import pytest

from soups.recipes.registry import RECIPES
from soups.recipes.ties import nth_largest
from tests.recipes.task_vector_toys import close, elect, judge, make_pool, tasks_of


@pytest.mark.parametrize("density", [0.01, 0.2, 0.7, 1.0])
@pytest.mark.parametrize("number", [1, 2, 5])
def test_ties_trims_elects_and_merges(density: float, number: int) -> None:
    for seed in range(5):
        pool = make_pool(seed, number)
        soup = RECIPES["ties"](pool, judge, density=density, scale=0.8)
        close(soup, pool, elect(tasks_of(pool), density), 0.8)
        assert soup.options == {"density": density, "scale": 0.8}


@pytest.mark.parametrize("kind", ["normal", "mostly zeros", "few values", "one value", "close"])
def test_the_nth_largest_is_exact(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(3)
    numbers = {
        "normal": np.abs(rng.normal(size=5000)),
        "mostly zeros": np.abs(rng.normal(size=5000)) * (rng.random(5000) < 0.1),
        "few values": rng.integers(0, 4, 5000) / 3,
        "one value": np.full(5000, 0.1),
        "close": 1 + rng.integers(0, 2000, 5000) * 2.0**-52,
    }[kind]
    for few in (1 << 20, 10, 0):
        monkeypatch.setattr(sys.modules[nth_largest.__module__], "_MAX_IN_MEMORY", few)
        for rank in (1, 2, 450, 2500, 4999, 5000):
            found = nth_largest(lambda: iter(np.array_split(numbers.copy(), 7)), rank)
            assert found == np.sort(numbers)[-rank]
