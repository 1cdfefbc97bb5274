"""One optimiser step: micro-batches equal the whole batch, and a loss that is not finite changes nothing."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from soups.core.preprocessing import Preprocessing
from soups.runtime.devices import Runtime, make_accelerator
from soups.runtime.process_group import SINGLE_PROCESS
from soups.training.losses import loss_options
from soups.training.settings import TrainingSettings
from soups.training.step import OptimizerStep

PREPROCESSING = Preprocessing(size=2, mean=(0, 0, 0), std=(1, 1, 1))
IMAGES = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (7, 2, 2, 3), dtype=np.uint8))
LABELS = torch.tensor([0, 1, 1, 0, 1, 1, 0])
WEIGHTS = np.array([1.0, 3.0])


class Network(nn.Module):
    """A linear head on the pixels."""

    def __init__(self, scale: float = 1.0) -> None:
        super().__init__()
        self.head, self.scale = nn.Linear(12, 2), scale

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.head(inputs.flatten(1)) * self.scale
        return logits


def step_once(micro_batch_size: int | None, weights: np.ndarray | None = None, **values: Any) -> tuple[Any, float]:
    """Returns the network after one step of plain gradient descent, and the loss."""
    torch.manual_seed(0)
    settings = TrainingSettings.model_validate({"smoothing": 0.1, "clip": 0.0})
    network = Network(**values)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    step = OptimizerStep(
        accelerator=make_accelerator(Runtime(precision="fp32", threads=1)),
        classifier=network,
        model=network,
        optimizer=optimizer,
        scheduler=torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0),
        settings=settings,
        preprocessing=PREPROCESSING,
        options=loss_options(settings, weights, "cpu"),
        device="cpu",
        micro_batch_size=micro_batch_size,
        group=SINGLE_PROCESS,
    )
    loss = step.step(IMAGES, LABELS, seed=0, count=len(LABELS))
    step.close()
    return network, loss


@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["equal", "weighted"])
def test_micro_batches_sum_to_the_gradient_of_the_batch(weights: np.ndarray | None) -> None:
    whole, loss = step_once(None, weights)
    parts, same = step_once(3, weights)
    assert same == pytest.approx(loss, rel=1e-5)
    torch.testing.assert_close(parts.head.weight, whole.head.weight)
    torch.manual_seed(0)
    assert not torch.allclose(whole.head.weight, Network().head.weight)


def test_a_loss_that_is_not_finite_changes_nothing() -> None:
    network, loss = step_once(None, scale=float("inf"))
    assert not np.isfinite(loss)
    torch.manual_seed(0)
    assert torch.equal(network.head.weight, Network().head.weight)
