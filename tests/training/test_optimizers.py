"""timm's optimisers by name, and a step of the plain ones computed by hand."""

from typing import Any

import pytest
import torch
from torch import nn

from soups.core.errors import UsageError
from soups.training.optimizers import make_optimizer, require_optimizer
from soups.training.settings import TrainingSettings


def settings_of(**values: Any) -> TrainingSettings:
    return TrainingSettings.model_validate(values)


def small() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))


def test_vectors_have_no_weight_decay() -> None:
    for name in ("adamw", "sgd", "adam"):
        optimizer = make_optimizer(small(), settings_of(optimizer=name, wd=0.3, lr=0.01))
        decayed = {group["weight_decay"]: {tuple(p.shape) for p in group["params"]} for group in optimizer.param_groups}
        assert decayed == {0.3: {(4, 5), (2, 4)}, 0.0: {(4,), (2,)}}
        assert all(group["lr"] == 0.01 for group in optimizer.param_groups)


@pytest.mark.parametrize(
    ("name", "momentum", "nesterov"),
    [("sgd", 0.9, True), ("sgd", 0.5, True), ("momentum", 0.9, False), ("momentum", 0.0, False)],
)
def test_gradient_descent_with_momentum(name: str, momentum: float, nesterov: bool) -> None:
    model = nn.Linear(3, 1, bias=False)
    weight, velocity = model.weight.detach().clone(), torch.zeros(1, 3)
    optimizer = make_optimizer(model, settings_of(optimizer=name, momentum=momentum, lr=0.1, wd=0.01))
    for number in range(3):
        gradient = torch.tensor([[1.0, -2.0, 0.5]]) * (number + 1)
        model.weight.grad = gradient.clone()
        optimizer.step()
        gradient = gradient + 0.01 * weight
        velocity = momentum * velocity + gradient
        weight = weight - 0.1 * (gradient + momentum * velocity if nesterov else velocity)
        assert torch.allclose(model.weight, weight, atol=1e-6)


@pytest.mark.parametrize(
    "name", ["adam", "sgd", "momentum", "rmsprop", "nadamw", "radam", "lamb", "lars", "lion", "adan"]
)
def test_common_optimizers_exist_and_change_all_weights(name: str) -> None:
    settings = settings_of(optimizer=name, lr=1e-2)
    require_optimizer(settings)
    model = small()
    optimizer = make_optimizer(model, settings)
    before = [parameter.detach().clone() for parameter in model.parameters()]
    for _ in range(2):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(torch.eye(5)), torch.tensor([0, 1, 0, 1, 1])).backward()
        optimizer.step()
    # A bias before BatchNorm does not change the output: it has no gradient.
    moved = [not torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True)]
    assert moved[0] and all(moved[2:])


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"optimizer": "adamv"}, r"unknown optimizer 'adamv'\n.*adamw.*\n.*did you mean 'adam"),
        ({"optimizer": "SGDD"}, r"did you mean 'sgd"),
        ({"optimizer": "bnbadam"}, "unknown optimizer"),  # Its package is not a dependency.
        ({"optimizer": "adahessian"}, "unknown optimizer"),  # A second-order optimiser.
        ({"momentum": 0.5}, "--momentum: the optimizer 'adamw' has no momentum\n.*leave it out"),
        (
            {"optimizer": "sgd", "momentum": 0.0},
            "--optimizer sgd: invalid settings\n.*Nesterov momentum requires a momentum",
        ),
    ],
)
def test_unusable_optimizers_are_refused(values: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        require_optimizer(settings_of(**values))
