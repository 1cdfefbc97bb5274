"""A small network on data of its own, as a judge with gradients, and pools of noisy copies of its weights."""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import nn
from torch.func import functional_call

from soups.recipes.shared.pool import Ingredient, Pool, Verdict

State = Mapping[str, torch.Tensor]


class Toy:
    """A judge of a small network on images of its own, all of them in every batch or half of them."""

    def __init__(self, seed: int = 0, parts: int = 1) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.network = nn.Sequential()
        self.network.add_module("backbone", nn.Sequential(nn.Linear(6, 5), nn.Tanh()))
        self.network.add_module("head", nn.Linear(5, 3))
        for parameter in self.network.parameters():
            parameter.data = torch.randn(parameter.shape, generator=generator)
        self.images = torch.randn(200, 6, generator=generator)
        self.labels = self.network(self.images).argmax(1)
        self.parts = parts
        self.judged: list[State] = []

    def loss(self, state: State, rows: slice = slice(None)) -> torch.Tensor:
        logits = functional_call(self.network, dict(state), (self.images[rows],))
        return F.cross_entropy(logits, self.labels[rows])

    def __call__(self, state: State, accept: object = None) -> Verdict:
        self.judged.append(state)
        with torch.no_grad():
            logits = functional_call(self.network, dict(state), (self.images,))
        errors = int((logits.argmax(1) != self.labels).sum())
        loss = float(F.cross_entropy(logits.double(), self.labels))
        return Verdict(1 - errors / 200, errors, 200, log_loss=loss)

    def gradient(self, state: State, seed: int) -> tuple[float, State]:
        leaves = {key: tensor.clone().requires_grad_() for key, tensor in state.items()}
        loss = self.loss(leaves, slice((seed + (seed >> 32)) % self.parts, None, self.parts))
        loss.backward()
        return float(loss.detach()), {key: leaf.grad for key, leaf in leaves.items() if leaf.grad is not None}

    def fisher(self, state: State, seed: int) -> State:
        raise AssertionError

    def ingredient(self, index: int, noise: float, head_noise: float = 0.0) -> Ingredient:
        """The true weights with errors of its own."""
        generator = torch.Generator().manual_seed(100 + index)
        state = {
            key: tensor
            + (head_noise if key.startswith("head") else noise) * torch.randn(tensor.shape, generator=generator)
            for key, tensor in self.network.state_dict().items()
        }
        verdict = self(state)
        return Ingredient(f"m{index}", f"{7 * index % 5}{index}", verdict.score, verdict.log_loss, lambda: state)


def pool_of(toy: Toy, number: int = 4) -> Pool:
    return Pool(tuple(toy.ingredient(index, 0.5, 0.5) for index in range(number)))
