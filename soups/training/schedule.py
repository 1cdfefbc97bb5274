"""The learning rate over the steps of a fine-tune."""

import math


def warmup_cosine(step: int, steps: int, warmup: float) -> float:
    """The factor of the peak learning rate at a step: linear rise, then half a cosine down to zero.

    Args:
        step: 0 for the first step.
        steps: all steps of the phase.
        warmup: share of the steps in which the rate rises; the first step already moves.
    """
    rising = warmup * steps
    if step < rising:
        return (step + 1) / (rising + 1)
    return 0.5 * (1 + math.cos(math.pi * (step - rising) / max(1.0, steps - rising)))
