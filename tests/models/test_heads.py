"""Heads and the classifier, with a toy backbone."""

import pytest
import torch

from soups.models.heads import empty_head, random_head, seeded_build


def test_random_heads_follow_the_seed_alone() -> None:
    state = torch.get_rng_state()
    first, again, other = random_head(8, 3, seed=1), random_head(8, 3, seed=1), random_head(8, 3, seed=2)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(first.weight, again.weight) and not torch.equal(first.weight, other.weight)
    assert torch.equal(first.bias, torch.zeros(3))
    assert random_head(1000, 1000, seed=0).weight.std().item() == pytest.approx(0.02, rel=0.01)


def test_an_empty_head_is_zero() -> None:
    assert not empty_head(4, 3).weight.any() and empty_head(4, 3).weight.shape == (3, 4)


def test_a_failed_build_restores_the_generator() -> None:
    state = torch.get_rng_state()
    with pytest.raises(ZeroDivisionError):
        seeded_build(lambda: 1 / (len(torch.rand(1)) - 1), seed=3)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(seeded_build(lambda: torch.rand(2), 7), seeded_build(lambda: torch.rand(2), 7))
