"""The saved state of torch's generators: draws repeat after it is restored."""

import torch

from soups.training.rng_state import RandomState


def test_draws_repeat_after_restoring() -> None:
    state = RandomState.capture("cpu")
    assert state.accelerator is None
    first = torch.rand(4)
    assert not torch.equal(torch.rand(4), first)
    state.restore("cpu")
    assert torch.equal(torch.rand(4), first)
