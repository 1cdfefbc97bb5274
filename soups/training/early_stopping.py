"""When a fine-tune stops before its end: no better validation score for long, or it has diverged.

The best validation score also decides the best epoch and plateau decay."""

import math
from dataclasses import dataclass, field

import numpy as np

from soups.core.errors import TrainingDiverged
from soups.core.metrics import METRICS
from soups.runtime.devices import Runtime
from soups.training.phases import Position
from soups.training.settings import TrainingSettings

EXPLODED = 50.0
"""Ratio of an epoch's mean loss to the initial one above which a fine-tune is stopped. In toy runs, fine-tunes up to
a ratio of 15 recovered and none above 100 did."""
_MIN_STEPS = 20
"""Steps of an epoch before its mean loss is judged; a shorter epoch is judged at its end."""


@dataclass
class EarlyStopping:
    """The best validation scores so far by one metric, and the number of epochs since then."""

    metric: str
    """A key of `METRICS`; its direction decides what a gain is."""
    best: dict[str, float] = field(default_factory=dict)
    """All scores of the best epoch, the first one of equals; empty before the first validation."""
    epochs_without_gain: int = 0

    def update(self, scores: dict[str, float]) -> bool:
        """Record the scores of one epoch; returns whether they are better than all before."""
        sign = 1 if METRICS[self.metric].higher_is_better else -1
        if self.best and not sign * scores[self.metric] > sign * self.best[self.metric]:
            self.epochs_without_gain += 1
            return False
        self.best, self.epochs_without_gain = scores, 0
        return True


def check_step(
    loss: float, images: int, is_last: bool, position: Position, settings: TrainingSettings, runtime: Runtime
) -> None:
    """Raise an error if a training step shows that the fine-tune has diverged.

    Args:
        loss: mean loss of the step's batch.
        images: images of the epoch so far.
        is_last: whether the step is the last one of the epoch.
        position: after the step; its first loss is the reference.
        settings: of the fine-tune.
        runtime: of the fine-tune.

    Raises:
        TrainingDiverged: the loss is not finite, or the mean of the epoch's losses is `EXPLODED` times the first one.
    """
    where = f"in epoch {position.epoch + 1}, step {position.step}"
    if not math.isfinite(loss):
        raise diverged(f"the loss became {loss} {where}", settings, runtime)
    mean, first = position.loss / images, max(position.first_loss or loss, 1.0)
    if (is_last or position.step >= _MIN_STEPS) and mean > EXPLODED * first:
        text = f"the loss exploded {where}: {mean:.3g} on average, {position.first_loss:.3g} at the first step"
        raise diverged(text, settings, runtime)


def check_logits(logits: np.ndarray, epoch: int, settings: TrainingSettings, runtime: Runtime) -> None:
    """Raise an error if logits are not finite.

    Raises:
        TrainingDiverged: some are not, although the losses of the epoch's steps were.
    """
    if not np.isfinite(logits).all():
        raise diverged(f"after epoch {epoch}, the logits of validation images are not finite", settings, runtime)


def diverged(problem: str, settings: TrainingSettings, runtime: Runtime) -> TrainingDiverged:
    """Returns the error for a fine-tune that has diverged; it names the learning rate and a smaller one."""
    step = f"lower the learning rate: --lr {settings.lr / 10:.1g}"
    if settings.hparams == "random":
        step = f"lower the learning rates: --lr-range LOW HIGH with a HIGH below {settings.lr:.1g}"
    elif settings.hparams != "fixed":
        step = f"lower the learning rate in {settings.hparams}"
    if runtime.precision != "fp32":
        step += "; or use --precision fp32 in a new run"
    return TrainingDiverged(
        f"lr {settings.lr:g}: {problem}", expected="a finite loss that does not explode", next_step=step
    )
