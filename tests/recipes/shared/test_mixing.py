"""Mixtures and gradients of their coefficients, against autograd and finite differences; blocks of networks."""

import numpy as np
import pytest
import torch

from soups.core.errors import UsageError
from soups.recipes.shared.mixing import Mixture, coefficient_gradients, find_block, map_blocks, mean_shares, mix_states
from soups.recipes.shared.pool import Ingredient
from tests.recipes.learning_toys import Toy, pool_of


@pytest.mark.parametrize("per", ["model", "block", "tensor"])
def test_coefficient_gradients_equal_autograd_and_finite_differences(per: str) -> None:
    toy, pool = Toy(), pool_of(Toy())
    toy.network.double()
    toy.images = toy.images.double()
    states = [{key: tensor.double() for key, tensor in part.load().items()} for part in pool.ingredients]
    blocks = map_blocks(states[0], per)
    generator = np.random.default_rng(0)
    shares = {block: generator.normal(size=4) for block in blocks.values()}
    _, gradient = toy.gradient(Mixture(states, blocks, shares), 0)
    found = coefficient_gradients(gradient, states, blocks)

    leaves = {block: torch.tensor(values, requires_grad=True) for block, values in shares.items()}
    merged = {
        key: sum(leaves[block][i] * state[key] for i, state in enumerate(states)) for key, block in blocks.items()
    }
    toy.loss(merged).backward()
    assert len(found) == {"model": 1, "block": 2, "tensor": 4}[per]
    for block, values in found.items():
        np.testing.assert_allclose(values, leaves[block].grad.numpy(), rtol=1e-9)
        for index in range(4):
            losses = []
            for step in (1e-6, -1e-6):
                moved = {name: np.array(numbers) for name, numbers in shares.items()}
                moved[block][index] += step
                losses.append(float(toy.loss(Mixture(states, blocks, moved)).detach()))
            assert values[index] == pytest.approx((losses[0] - losses[1]) / 2e-6, rel=1e-4, abs=1e-6)


def test_counters_are_those_of_the_first_and_shares_are_weighted_by_size() -> None:
    states = [{"backbone.w": torch.full((9,), float(i)), "head.b": torch.ones(1), "n": torch.tensor(i)} for i in (5, 7)]
    parts = tuple(Ingredient(f"m{i}", f"{i}", 0.5, 0.5, lambda state=state: state) for i, state in enumerate(states))
    options = {"per": "block", "coefficients": {"stem": [1.5, -0.5], "head": [0.0, 1.0]}}
    state = mix_states(parts, (), options)
    assert state["n"] == 5 and torch.equal(state["backbone.w"], torch.full((9,), 4.0))
    shares = mean_shares(states[0], map_blocks(states[0], "block"), options["coefficients"])  # type: ignore[arg-type]
    assert shares == pytest.approx((0.9 * 1.5, 0.9 * -0.5 + 0.1))


@pytest.mark.parametrize(
    ("key", "block"),
    [
        ("head.weight", "head"),
        ("backbone.class_embedding", "stem"),
        ("backbone.conv1.weight", "stem"),
        ("backbone.ln_pre.bias", "stem"),
        ("backbone.transformer.resblocks.11.attn.in_proj_weight", "backbone.transformer.resblocks.11"),
        ("backbone.ln_post.weight", "end"),
        ("backbone.proj", "end"),
        ("backbone.attnpool.positional_embedding", "end"),
        ("backbone.layer1.0.downsample.0.weight", "backbone.layer1.0"),
        ("backbone.patch_embed.proj.weight", "stem"),
        ("backbone.blocks.3.mlp.fc1.weight", "backbone.blocks.3"),
        ("backbone.blocks.2.1.conv_dw.weight", "backbone.blocks.2.1"),
        ("backbone.stages.2.blocks.5.norm.weight", "backbone.stages.2.blocks.5"),
        ("backbone.stages.1.downsample.0.weight", "backbone.stages.1"),
        ("backbone.norm.weight", "end"),
        ("backbone.norm_pre.weight", "stem"),
        ("backbone.fc_norm.bias", "end"),
        ("backbone.conv_head.weight", "end"),
        ("w", "stem"),
    ],
)
def test_blocks_of_open_clip_and_timm(key: str, block: str) -> None:
    assert find_block(key) == block


def test_coefficients_that_do_not_fit_are_errors() -> None:
    pool = pool_of(Toy())
    with pytest.raises(UsageError, match=r"coefficients of a mixture(?s:.*)4 numbers for each of(?s:.*)3 for all"):
        mix_states(pool.ingredients, (), {"per": "model", "coefficients": {"all": [1, 2, 3]}})
