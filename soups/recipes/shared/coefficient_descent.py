"""The descent of mixing coefficients: Adam on gradients that are streamed, gone on from where a record ends."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from soups.recipes.shared.budget import is_spent
from soups.recipes.shared.mixing import Mixture, coefficient_gradients
from soups.recipes.shared.pool import MEMORY, Teacher, Verdict
from soups.recipes.shared.resume import recall_decision
from soups.recipes.shared.sweep import DecisionLog

if TYPE_CHECKING:
    from soups.recipes.shared.pool import State

_MOMENTA = (0.9, 0.95)
"""Adam's; the second is shorter than usual, as there are few steps."""
_TOLD_EVERY = 8
"""Steps between two lines of the record: once through all images, of up to 8,192."""


@dataclass
class _Memory:
    """What Adam remembers, (blocks, models) float64 each."""

    moved: np.ndarray
    first: np.ndarray
    second: np.ndarray

    def plain(self) -> list[list[list[float]]]:
        """As JSON, which keeps every bit of a float64."""
        return [self.moved.tolist(), self.first.tolist(), self.second.tolist()]


@dataclass(frozen=True)
class CoefficientDescent:
    """Adam (Kingma & Ba 2015, arXiv:1412.6980, algorithm 1) on what coefficients are away from where they began."""

    judge: Teacher
    states: "Sequence[State]"
    blocks: Mapping[str, str]
    start: Mapping[str, np.ndarray]
    """Block → (M,) coefficients."""
    rate: float

    def run(self, steps: int, seed: int, trace: DecisionLog, incumbent: float) -> dict[str, np.ndarray]:
        """The coefficients after so many steps; fewer where the budget is spent, or the loss is no number."""
        begin, rates = np.stack([*self.start.values()]), tuple(_falling(self.rate, steps))
        memory, done = _Memory(*(np.zeros_like(begin) for _ in range(3))), 0
        while done < steps:
            goal = min(done + _TOLD_EVERY, steps)
            line = recall_decision(self.judge, f"step {goal}")
            if line is not None and MEMORY in line:
                trace.recall(line)
                memory, done = _Memory(*map(np.array, line[MEMORY])), goal
                continue
            losses: list[float] = []
            while done < goal and (loss := self._step(begin, memory, rates[done], seed, done + 1)) is not None:
                losses.append(loss)
                done += 1
                if is_spent(self.judge):
                    break
            if done < goal:
                break
            mean = math.fsum(losses) / len(losses)
            told = Verdict(math.nan, 0, 0, complete=False, log_loss=mean)
            why = f"mean log-loss of the last {len(losses)} batches"
            trace.add(f"step {goal}", True, told, incumbent, why, memory=memory.plain())
            if is_spent(self.judge):
                break
        return dict(zip(self.start, begin + memory.moved, strict=True))

    def _step(self, begin: np.ndarray, memory: "_Memory", rate: float, seed: int, step: int) -> float | None:
        """One step, in place; the loss of its batch, or None where it or its slope is no number, and nothing moved."""
        loss, slope = self._slope(begin + memory.moved, seed + step - 1)
        if not (math.isfinite(loss) and np.isfinite(slope).all()):
            return None
        memory.first += (1 - _MOMENTA[0]) * (slope - memory.first)
        memory.second += (1 - _MOMENTA[1]) * (slope**2 - memory.second)
        size = np.sqrt(memory.second / (1 - _MOMENTA[1] ** step)) + 1e-12
        memory.moved -= _balanced(rate * memory.first / (1 - _MOMENTA[0] ** step) / size)
        return loss

    def _slope(self, table: np.ndarray, seed: int) -> tuple[float, np.ndarray]:
        """The loss on a batch, and its derivative by each coefficient while those of a block sum to one."""
        shares = dict(zip(self.start, table, strict=True))
        loss, gradient = self.judge.gradient(Mixture(self.states, self.blocks, shares), seed)
        found = coefficient_gradients(gradient, self.states, self.blocks)
        return loss, _balanced(np.stack([found[block] for block in self.start]))


def _balanced(table: np.ndarray) -> np.ndarray:
    """(blocks, models) with the mean of each block taken off, so that what is added to coefficients keeps their sum."""
    return np.asarray(table - table.mean(axis=1, keepdims=True))


def _falling(rate: float, steps: int) -> Iterator[float]:
    """From `rate` towards zero, along half a cosine."""
    for step in range(steps):
        yield rate * (1 + math.cos(math.pi * step / steps)) / 2
