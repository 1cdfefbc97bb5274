"""The learning rate over the steps of a fine-tune, as a factor of its peak."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from soups.core.errors import unknown_name


@dataclass(frozen=True)
class Decay:
    """How schedules fall that fall by themselves."""

    every: float = 1.0
    """Steps from one fall to the next."""
    rate: float = 0.1
    """What is left of the learning rate after a fall."""


Schedule = Callable[[float, float, Decay], float]
"""`schedule(done, steps, decay) -> factor in [0, 1]`: steps since the warm-up, of so many that there are after it."""


def cosine(done: float, steps: float, decay: Decay) -> float:
    """Half a cosine down to zero: Loshchilov and Hutter 2017, arXiv:1608.03983, equation 5, without restarts."""
    return 0.5 * (1 + math.cos(math.pi * done / steps))


def linear(done: float, steps: float, decay: Decay) -> float:
    """A straight line down to zero."""
    return 1 - done / steps


def constant(done: float, steps: float, decay: Decay) -> float:
    """The peak, on and on."""
    return 1.0


def step(done: float, steps: float, decay: Decay) -> float:
    """By `decay.rate` at once every `decay.every` steps, as torch's `StepLR`."""
    return decay.rate ** (done // decay.every)


def exponential(done: float, steps: float, decay: Decay) -> float:
    """By `decay.rate` in the course of every `decay.every` steps, as torch's `ExponentialLR`."""
    return decay.rate ** (done / decay.every)


PLATEAU = "plateau"
"""Falls when validation says so (as torch's `ReduceLROnPlateau`), which no function of the step can know."""

SCHEDULES: dict[str, Schedule] = {
    "cosine": cosine,
    "linear": linear,
    "constant": constant,
    "step": step,
    "exponential": exponential,
    PLATEAU: constant,
}

DECAYING = ("step", "exponential", PLATEAU)
"""Those that are told how fast they fall."""


def lr_factor(at: int, steps: int, warmup: float, schedule: str = "cosine", decay: Decay | None = None) -> float:
    """The factor of the peak learning rate at a step: a linear rise, then what a schedule says.

    Args:
        at: 0 for the first step.
        steps: all steps of the phase.
        warmup: share of the steps in which the rate rises; the first step already moves.
        schedule: a key of `SCHEDULES`.
        decay: for those of `DECAYING`.

    Raises:
        UsageError: there is no such schedule.
    """
    if schedule not in SCHEDULES:
        raise unknown_name("scheduler", schedule, SCHEDULES)
    rising = warmup * steps
    if at < rising:
        return (at + 1) / (rising + 1)
    return SCHEDULES[schedule](at - rising, max(1.0, steps - rising), decay or Decay())
