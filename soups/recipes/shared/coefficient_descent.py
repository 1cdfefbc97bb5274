"""Gradient descent on mixing coefficients: Adam on streamed gradients, resumed from the decision record."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from soups.recipes.shared.budget import is_spent
from soups.recipes.shared.decisions import MEMORY_KEY, DecisionLog
from soups.recipes.shared.mixing import Mixture, coefficient_gradients
from soups.recipes.shared.pool import GradientJudge, State, Verdict

_BETAS = (0.9, 0.95)
"""Adam's β1 and β2; β2 is lower than usual because there are few steps."""
_STEPS_PER_RECORD = 8
"""Steps between two records: one pass over all images, of up to 8,192."""


@dataclass(frozen=True)
class CoefficientDescent:
    """Adam (Kingma & Ba 2015, arXiv:1412.6980, algorithm 1) on the change of coefficients from their initial values."""

    judge: GradientJudge
    states: Sequence[State]
    blocks: Mapping[str, str]
    start: Mapping[str, np.ndarray]
    """Block → (M,) initial coefficients."""
    rate: float
    """Initial learning rate; it falls towards zero along half a cosine."""

    def run(self, steps: int, seed: int, log: DecisionLog, incumbent: float) -> dict[str, np.ndarray]:
        """Return the coefficients after `steps` steps, or fewer if the budget is spent or the loss is not finite.

        Args:
            steps: number of gradient steps.
            seed: of the batches.
            log: receives a record every 8 steps.
            incumbent: score logged as the incumbent.
        """
        begin = np.stack([*self.start.values()])
        adam, done = np.zeros((3, *begin.shape)), 0  # The change of the coefficients, its first and second moment.
        while done < steps:
            goal = min(done + _STEPS_PER_RECORD, steps)
            if log.replay(f"step {goal}") is not None:
                adam, done = np.array(log.decisions[-1][MEMORY_KEY]), goal
                continue
            losses: list[float] = []
            while done < goal:
                rate = self.rate * (1 + math.cos(math.pi * done / steps)) / 2
                loss = self._step(begin, adam, rate, seed, done + 1)
                if loss is None:
                    break
                losses.append(loss)
                done += 1
                if is_spent(self.judge):
                    break
            if done < goal:
                break
            verdict = Verdict(math.nan, 0, 0, complete=False, log_loss=math.fsum(losses) / len(losses))
            why = f"mean log-loss of the last {len(losses)} batches"
            log.add(f"step {goal}", True, verdict, incumbent, why, memory=adam.tolist())
            if is_spent(self.judge):
                break
        return dict(zip(self.start, begin + adam[0], strict=True))

    def _step(self, begin: np.ndarray, adam: np.ndarray, rate: float, seed: int, step: int) -> float | None:
        """Take one step of Adam in place; return its batch loss, or None without a step if it is not finite.

        Args:
            begin: (blocks, models) float64, the initial coefficients.
            adam: (3, blocks, models) float64: their change, first and second moment.
            rate: learning rate.
            seed: of the batches.
            step: number of this step, from 1.
        """
        change, first_moment, second_moment = adam
        shares = dict(zip(self.start, begin + change, strict=True))
        loss, gradient = self.judge.gradient(Mixture(self.states, self.blocks, shares), seed + step - 1)
        found = coefficient_gradients(gradient, self.states, self.blocks)
        slope = _center_rows(np.stack([found[block] for block in self.start]))
        if not (math.isfinite(loss) and np.isfinite(slope).all()):
            return None
        first_moment += (1 - _BETAS[0]) * (slope - first_moment)
        second_moment += (1 - _BETAS[1]) * (slope**2 - second_moment)
        size = np.sqrt(second_moment / (1 - _BETAS[1] ** step)) + 1e-12
        change -= _center_rows(rate * first_moment / (1 - _BETAS[0] ** step) / size)
        return loss


def _center_rows(table: np.ndarray) -> np.ndarray:
    """Return (blocks, models) minus the mean of each row, so that adding it to coefficients keeps their sum."""
    return np.asarray(table - table.mean(axis=1, keepdims=True))
