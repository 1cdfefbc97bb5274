"""The descent on mixing coefficients against torch's Adam with all models in memory."""

import math
from collections.abc import Mapping

import numpy as np
import pytest
import torch

from soups.recipes.learned import learned
from soups.recipes.shared.mixing import map_blocks
from tests.recipes.learning_toys import State, Toy, pool_of


def slow_adam(toy: Toy, states: list[State], blocks: Mapping[str, str], steps: int, rate: float) -> dict:
    """The same descent by torch, with every model in memory."""
    free = {block: torch.zeros(len(states), dtype=torch.float64, requires_grad=True) for block in blocks.values()}

    def shares() -> dict[str, torch.Tensor]:
        return {block: 1 / len(states) + z - z.mean() for block, z in free.items()}

    adam = torch.optim.Adam(free.values(), lr=rate, betas=(0.9, 0.95), eps=1e-12)
    for step in range(steps):
        adam.param_groups[0]["lr"] = rate * (1 + math.cos(math.pi * step / steps)) / 2
        adam.zero_grad()
        weights = shares()
        merged = {
            key: sum(weights[block][i] * state[key] for i, state in enumerate(states)).float()
            for key, block in blocks.items()
        }
        toy.loss(merged, slice(step % toy.parts, None, toy.parts)).backward()
        adam.step()
    return {block: values.detach().numpy() for block, values in shares().items()}


@pytest.mark.parametrize("per", ["model", "block", "tensor"])
def test_the_descent_equals_adam_of_torch(per: str) -> None:
    toy = Toy(parts=2)
    pool = pool_of(toy)
    soup = learned(pool, toy, per=per, begin="uniform", steps=20, rate=0.05)  # type: ignore[arg-type]
    states = [part.load() for part in soup.ingredients]
    blocks = map_blocks(states[0], per)
    expected = slow_adam(toy, states, blocks, 20, 0.05 / 2)
    assert soup.options["coefficients"].keys() == expected.keys()
    for block, values in expected.items():
        np.testing.assert_allclose(soup.options["coefficients"][block], values, atol=2e-5)
        assert sum(soup.options["coefficients"][block]) == pytest.approx(1)


class Broken(Toy):
    """Gives no numbers from the third gradient on."""

    def gradient(self, state: State, seed: int) -> tuple[float, State]:
        loss, gradient = super().gradient(state, seed)
        return (math.nan if seed % 2**32 >= 2 else loss), gradient


def test_the_descent_stops_if_the_loss_is_not_finite() -> None:
    toy = Broken()
    soup = learned(pool_of(toy), toy, steps=10)
    assert math.isfinite(toy(soup.state).log_loss)
    assert toy(soup.state).log_loss <= min(part.log_loss for part in soup.ingredients)
