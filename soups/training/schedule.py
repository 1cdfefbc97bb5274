"""Learning-rate schedules: factor of the peak rate at each step of a fine-tune."""

import math
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Decay:
    """Parameters of the schedules in `DECAYING`."""

    every: float = 1.0
    """Steps between two decays."""
    rate: float = 0.1
    """Factor of the learning rate at each decay, in (0, 1]."""


Schedule = Callable[[float, float, Decay], float]
"""`schedule(done, steps, decay) -> factor in [0, 1]`: `done` of the `steps` after the warm-up are done."""


def cosine(done: float, steps: float, decay: Decay) -> float:
    """Returns half a cosine to zero: Loshchilov and Hutter 2017, arXiv:1608.03983, equation 5, without restarts."""
    return 0.5 * (1 + math.cos(math.pi * done / steps))


def linear(done: float, steps: float, decay: Decay) -> float:
    """Returns a straight line down to zero."""
    return 1 - done / steps


def constant(done: float, steps: float, decay: Decay) -> float:
    """Returns 1: the peak rate throughout."""
    return 1.0


def step(done: float, steps: float, decay: Decay) -> float:
    """Returns the factor of a decay by `decay.rate` every `decay.every` steps, as in torch's `StepLR`."""
    return decay.rate ** (done // decay.every)


def exponential(done: float, steps: float, decay: Decay) -> float:
    """Returns a continuous decay: `decay.rate` per `decay.every` steps, as torch's `ExponentialLR`."""
    return decay.rate ** (done / decay.every)


PLATEAU = "plateau"
"""Decays depend on validation (as in torch's `ReduceLROnPlateau`), so they are applied outside the schedule."""

SCHEDULES: dict[str, Schedule] = {
    "cosine": cosine,
    "linear": linear,
    "constant": constant,
    "step": step,
    "exponential": exponential,
    PLATEAU: constant,
}

DECAYING = ("step", "exponential", PLATEAU)
"""Schedules that use `Decay`."""


def lr_factor(at: int, steps: int, warmup: float, schedule: str = "cosine", decay: Decay | None = None) -> float:
    """Returns the factor of the peak learning rate at a step: a linear warm-up, then the schedule.

    Args:
        at: 0 for the first step.
        steps: number of steps of the phase.
        warmup: share of the steps with a rising rate, in [0, 1]; the first step has a rate above zero.
        schedule: a key of `SCHEDULES`.
        decay: parameters for the schedules in `DECAYING`.
    """
    rising = warmup * steps
    if at < rising:
        return (at + 1) / (rising + 1)
    return SCHEDULES[schedule](at - rising, max(1.0, steps - rising), decay or Decay())
