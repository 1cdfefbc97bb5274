"""Fisher merging against a slow reference written from the paper."""

import math
from collections.abc import Mapping

import numpy as np
import pytest
import torch

from soups.core.errors import DataError, UsageError
from soups.recipes.fisher import fisher
from soups.recipes.shared.pool import Ingredient, Pool, Verdict

State = Mapping[str, torch.Tensor]


class Judge:
    """The Fisher information of a state is a fixed function of its weights and the seed; the seeds are recorded."""

    def __init__(self) -> None:
        self.seeds: list[int] = []

    def __call__(self, state: State, accept: object = None) -> Verdict:
        return Verdict(1 - float(state["w"].double().abs().mean()), 1, 2)

    def gradient(self, state: State, seed: int) -> tuple[float, State]:
        raise AssertionError

    def fisher(self, state: State, seed: int) -> State:
        self.seeds.append(seed)
        return {key: information(tensor, seed) for key, tensor in state.items() if tensor.is_floating_point()}


def information(tensor: torch.Tensor, seed: int) -> torch.Tensor:
    """Zero for some weights."""
    return (tensor.double() * (seed + 1) * 10).sin().clamp(min=0).float() * 1e-3


def pool_of(number: int, dtype: torch.dtype = torch.float32) -> Pool:
    generator = torch.Generator().manual_seed(number)
    parts = []
    for index in range(number):
        state = {
            "w": torch.randn(5, 4, generator=generator).to(dtype),
            "head.b": torch.randn(3, generator=generator).to(dtype),
            "n": torch.tensor(index),
        }
        parts.append(Ingredient(f"m{index}", f"{5 * index % 7}", 0.5, 1.0, lambda state=state: state))
    return Pool(tuple(parts))


def slow(parts: list[Ingredient], key: str, floor: float, seed: int) -> np.ndarray:
    """Equation 4, a weight at a time."""
    states = [part.load()[key].double().numpy() for part in parts]
    fishers = [information(part.load()[key], seed).double().numpy() for part in parts]
    merged = np.zeros_like(states[0])
    for place in np.ndindex(*merged.shape):
        precisions = [max(float(each[place]), floor) for each in fishers]
        merged[place] = sum(f * w[place] for f, w in zip(precisions, states, strict=True)) / sum(precisions)
    return merged


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("floor", "seed"), [(1e-6, 0), (1e-4, 0), (1e-6, 3)])
def test_fisher_equals_the_equation_of_the_paper(dtype: torch.dtype, floor: float, seed: int) -> None:
    pool, judge, decisions = pool_of(5, dtype), Judge(), []
    soup = fisher(pool, judge, floor=floor, seed=seed, on_decision=decisions.append)
    parts = sorted(pool.ingredients, key=lambda part: part.sha256)
    tolerance = 1e-5 if dtype == torch.float32 else 1e-2
    for key in ("w", "head.b"):
        assert soup.state[key].dtype == dtype
        expected = slow(parts, key, floor, seed)
        np.testing.assert_allclose(soup.state[key].double().numpy(), expected, rtol=tolerance, atol=tolerance)
    assert soup.state["n"] == parts[0].load()["n"]
    assert judge.seeds == [seed] * 5 and soup.options == {"floor": floor, "seed": seed}
    assert soup.score == judge(soup.state).score and tuple(decisions) == soup.decisions and len(decisions) == 1
    assert soup.coefficients == pytest.approx([0.2] * 5)


def test_every_order_gives_the_same_bits_and_ingredients_do_not_change() -> None:
    pool = pool_of(4)
    before = [part.load()["w"].clone() for part in pool.ingredients]
    one, other = (fisher(Pool(order), Judge()) for order in (pool.ingredients, pool.ingredients[::-1]))
    assert all(torch.equal(tensor, other.state[key]) for key, tensor in one.state.items())
    one.state["n"].add_(1)  # The soup's own.
    assert all(torch.equal(part.load()["w"], kept) for part, kept in zip(pool.ingredients, before, strict=True))
    assert sorted(int(part.load()["n"]) for part in pool.ingredients) == [0, 1, 2, 3]


def test_one_model_does_not_change() -> None:
    pool = pool_of(1)
    torch.testing.assert_close(fisher(pool, Judge()).state["w"], pool.ingredients[0].load()["w"])


def test_invalid_options_and_ingredients_are_errors() -> None:
    pool = pool_of(3)
    for floor in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(UsageError, match=r"fisher: floor(?s:.*)\(0, inf\)"):
            fisher(pool, Judge(), floor=floor)
    with pytest.raises(UsageError, match=r"fisher: seed(?s:.*)whole number from 0 on(?s:.*)-1"):
        fisher(pool, Judge(), seed=-1)
    sick = Ingredient(
        "sick", "z", 0.5, 1.0, lambda: {**pool.ingredients[0].load(), "head.b": torch.full((3,), math.nan)}
    )
    with pytest.raises(DataError, match=r"sick: tensor 'head.b' holds NaN"):
        fisher(Pool((*pool.ingredients, sick)), Judge())
    small = Ingredient("small", "z", 0.5, 1.0, lambda: {**pool.ingredients[0].load(), "head.b": torch.zeros(2)})
    with pytest.raises(DataError, match=r"small(?s:.*)head\.b"):
        fisher(Pool((*pool.ingredients, small)), Judge())
