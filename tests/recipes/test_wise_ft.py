"""WiSE-FT against its formula."""

import itertools

import numpy as np
import pytest
import torch

from soups.recipes.registry import RECIPES
from tests.recipes.task_vector_toys import (
    SHAPES,
    arrays,
    judge,
    make_pool,
)


@pytest.mark.parametrize("number", [1, 2, 5])
def test_wise_ft_is_on_the_line(number: int) -> None:
    for seed, alpha in itertools.product(range(5), (0.0, 0.3, 1.0)):
        pool = make_pool(seed, number)
        assert pool.start is not None
        soup = RECIPES["wise_ft"](pool, judge, alpha=alpha)
        mean = {key: np.mean([arrays(i)[key] for i in pool.ingredients], axis=0) for key in SHAPES}
        for key, start in arrays(pool.start).items():
            expected = (1 - alpha) * start + alpha * mean[key]
            np.testing.assert_allclose(soup.state[key].double().numpy(), expected, rtol=2e-6, atol=1e-6)
        assert soup.options == {"alpha": alpha} and soup.coefficients == pytest.approx([alpha / number] * number)
    ends = RECIPES["wise_ft"](pool, judge, alpha=0.0)
    assert all(torch.equal(ends.state[key], pool.start.load()[key]) for key in SHAPES)
