"""Gradient descent on mixing coefficients: Adam on streamed gradients, resumed from the decision record."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from soups.recipes.shared.budget import is_spent
from soups.recipes.shared.mixing import Mixture, coefficient_gradients
from soups.recipes.shared.pool import MEMORY_KEY, GradientJudge, Verdict
from soups.recipes.shared.resume import recorded_decision
from soups.recipes.shared.sweep import DecisionLog

if TYPE_CHECKING:
    from soups.recipes.shared.pool import State

_BETAS = (0.9, 0.95)
"""Adam's β1 and β2; β2 is lower than usual because there are few steps."""
_STEPS_PER_RECORD = 8
"""Steps between two records: one pass over all images, of up to 8,192."""


@dataclass
class _AdamState:
    """State of Adam, (blocks, models) float64 each."""

    change: np.ndarray
    first_moment: np.ndarray
    second_moment: np.ndarray

    def to_json(self) -> list[list[list[float]]]:
        """Return nested lists for JSON, which keeps every bit of a float64."""
        return [self.change.tolist(), self.first_moment.tolist(), self.second_moment.tolist()]


@dataclass(frozen=True)
class CoefficientDescent:
    """Adam (Kingma & Ba 2015, arXiv:1412.6980, algorithm 1) on the change of coefficients from their initial values."""

    judge: GradientJudge
    states: "Sequence[State]"
    blocks: Mapping[str, str]
    start: Mapping[str, np.ndarray]
    """Block → (M,) initial coefficients."""
    rate: float
    """Initial learning rate."""

    def run(self, steps: int, seed: int, log: DecisionLog, incumbent: float) -> dict[str, np.ndarray]:
        """Return the coefficients after `steps` steps, or fewer if the budget is spent or the loss is not finite.

        Args:
            steps: number of gradient steps.
            seed: of the batches.
            log: receives a record every 8 steps.
            incumbent: score logged as the incumbent.
        """
        begin, rates = np.stack([*self.start.values()]), tuple(_cosine_rates(self.rate, steps))
        adam, done = _AdamState(*(np.zeros_like(begin) for _ in range(3))), 0
        while done < steps:
            goal = min(done + _STEPS_PER_RECORD, steps)
            line = recorded_decision(self.judge, f"step {goal}")
            if line is not None and MEMORY_KEY in line:
                log.add_recorded(line)
                adam, done = _AdamState(*map(np.array, line[MEMORY_KEY])), goal
                continue
            losses: list[float] = []
            while done < goal and (loss := self._step(begin, adam, rates[done], seed, done + 1)) is not None:
                losses.append(loss)
                done += 1
                if is_spent(self.judge):
                    break
            if done < goal:
                break
            mean = math.fsum(losses) / len(losses)
            verdict = Verdict(math.nan, 0, 0, complete=False, log_loss=mean)
            why = f"mean log-loss of the last {len(losses)} batches"
            log.add(f"step {goal}", True, verdict, incumbent, why, memory=adam.to_json())
            if is_spent(self.judge):
                break
        return dict(zip(self.start, begin + adam.change, strict=True))

    def _step(self, begin: np.ndarray, adam: "_AdamState", rate: float, seed: int, step: int) -> float | None:
        """Take one step in place; return its batch loss, or None without a step if loss or gradient is not finite."""
        loss, slope = self._batch_gradient(begin + adam.change, seed + step - 1)
        if not (math.isfinite(loss) and np.isfinite(slope).all()):
            return None
        adam.first_moment += (1 - _BETAS[0]) * (slope - adam.first_moment)
        adam.second_moment += (1 - _BETAS[1]) * (slope**2 - adam.second_moment)
        size = np.sqrt(adam.second_moment / (1 - _BETAS[1] ** step)) + 1e-12
        adam.change -= _center_rows(rate * adam.first_moment / (1 - _BETAS[0] ** step) / size)
        return loss

    def _batch_gradient(self, table: np.ndarray, seed: int) -> tuple[float, np.ndarray]:
        """Return the batch loss and its derivative by each coefficient, projected so that each block's sum stays 1."""
        shares = dict(zip(self.start, table, strict=True))
        loss, gradient = self.judge.gradient(Mixture(self.states, self.blocks, shares), seed)
        found = coefficient_gradients(gradient, self.states, self.blocks)
        return loss, _center_rows(np.stack([found[block] for block in self.start]))


def _center_rows(table: np.ndarray) -> np.ndarray:
    """Return (blocks, models) minus the mean of each row, so that adding it to coefficients keeps their sum."""
    return np.asarray(table - table.mean(axis=1, keepdims=True))


def _cosine_rates(rate: float, steps: int) -> Iterator[float]:
    """Yield `steps` learning rates that fall from `rate` towards zero along half a cosine."""
    for step in range(steps):
        yield rate * (1 + math.cos(math.pi * step / steps)) / 2
