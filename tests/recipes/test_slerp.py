"""Slerp against Shoemake's formula."""

import numpy as np
import pytest
import torch

from soups.core.errors import DataError, UsageError
from soups.recipes.shared.pool import Pool
from soups.recipes.slerp import slerp
from tests.recipes.selection_toys import IMAGES, judge, make_pool, pool_of_two


def arc(a: np.ndarray, b: np.ndarray, fraction: float) -> np.ndarray:
    """Rotate a towards b in their plane; both have the same length."""
    unit = a / np.linalg.norm(a)
    across = b - (b @ unit) * unit
    angle = np.arctan2(np.linalg.norm(across), b @ unit)
    return np.linalg.norm(a) * (
        np.cos(fraction * angle) * unit + np.sin(fraction * angle) * across / np.linalg.norm(across)
    )


@pytest.mark.parametrize("fraction", [0.0, 0.25, 0.5, 1.0])
def test_slerp_turns_and_keeps_the_length(fraction: float) -> None:
    rng = np.random.default_rng(2)
    one, other = rng.normal(size=(2, IMAGES))
    other *= np.linalg.norm(one) / np.linalg.norm(other)
    pool = pool_of_two({"w": torch.tensor(one)}, {"w": torch.tensor(other)})
    state = slerp(pool, judge, fraction=fraction).state
    np.testing.assert_allclose(state["w"].numpy(), arc(one, other, fraction), rtol=1e-12)


def test_slerp_of_unequal_lengths_tensor_by_tensor() -> None:
    pool = make_pool(5, 2)
    first, second = sorted(pool.ingredients, key=lambda i: i.sha256)
    soup = slerp(pool, judge, fraction=0.3)
    for key in ("w", "m"):
        a, b = (i.load()[key].double().numpy() for i in (first, second))
        angle = np.arccos((a * b).sum() / np.sqrt((a * a).sum() * (b * b).sum()))
        expected = (np.sin(0.7 * angle) * a + np.sin(0.3 * angle) * b) / np.sin(angle)
        np.testing.assert_allclose(soup.state[key].numpy(), expected, rtol=2e-6, atol=1e-6)
    assert soup.state["n"].item() == first.load()["n"].item()
    assert soup.coefficients == (0.7, 0.3) and soup.score == judge(soup.state).score


def test_slerp_is_linear_where_there_is_no_arc() -> None:
    ones = torch.ones(IMAGES)
    for other in (2 * ones, -ones, 0 * ones, ones + torch.tensor([1e-3] + [0.0] * (IMAGES - 1))):
        state = slerp(pool_of_two({"w": ones}, {"w": other}), judge, fraction=0.25).state
        torch.testing.assert_close(state["w"], 0.75 * ones + 0.25 * other)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_slerp_in_both_orders(dtype: torch.dtype) -> None:
    pool = make_pool(6, 2, dtype)
    one, other = slerp(pool, judge), slerp(Pool(pool.ingredients[::-1]), judge)
    assert all(torch.equal(one.state[key], other.state[key]) for key in one.state)
    assert one.state["w"].dtype == dtype


@pytest.mark.parametrize("number", [1, 3])
def test_slerp_needs_two_models(number: int) -> None:
    with pytest.raises(DataError, match=rf"slerp: the number of models(?s:.*)exactly 2 models(?s:.*){number}"):
        slerp(make_pool(0, number), judge)


def test_errors_of_slerp_name_the_tensor() -> None:
    with pytest.raises(DataError, match="other: tensor 'w' does not fit one"):
        slerp(pool_of_two({"w": torch.ones(2)}, {"w": torch.ones(3)}), judge)
    with pytest.raises(DataError, match="other: tensor 'w' holds NaN"):
        slerp(pool_of_two({"w": torch.ones(1)}, {"w": torch.full((1,), torch.nan)}), judge)
    with pytest.raises(UsageError, match=r"slerp: fraction(?s:.*)\[0, 1\]"):
        slerp(make_pool(0, 2), judge, fraction=2.0)
