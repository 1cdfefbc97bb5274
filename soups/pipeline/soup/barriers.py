"""Linear barriers: the accuracy that is lost at the midpoint between the weights of two models."""

import logging
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from soups.checkpoints.card import Card
from soups.core.progress import track
from soups.core.statistics import bootstrap_interval
from soups.pipeline.score.context import RunContext
from soups.pipeline.soup.judge import LazyJudge
from soups.recipes.shared.pool import Ingredient, Pool, mean_state
from soups.recipes.shared.sweep import best_first

logger = logging.getLogger(__name__)

LARGEST = 0.02
"""Largest drop in accuracy that counts as no barrier: the noise margin of Frankle et al. 2020. On the demo, fine-tunes
of one start lose up to 1.4 points; a copy with permuted neurons (which computes the same function) loses up to 35."""
_REFERENCES = 3
"""Number of best models that are tried as the reference model."""


@dataclass(frozen=True)
class Barrier:
    """Drop in accuracy at the midpoint between two models."""

    midpoint: float
    """Accuracy of the mean of their weights, in [0, 1]."""
    drop: float
    """Mean accuracy of the two models minus `midpoint`; negative where the midpoint is better."""
    low: float
    high: float
    """Upper end of the 95% interval of the drop (resampled groups of validation images); `low` is the lower end."""

    @property
    def beyond_noise(self) -> bool:
        """Return whether the drop exceeds `LARGEST` and its interval lies above 0."""
        return self.drop > LARGEST and self.low > 0

    @property
    def surely_none(self) -> bool:
        """Return whether the upper end of the interval is at most `LARGEST`."""
        return self.high <= LARGEST


def measure_barriers(
    context: RunContext, ingredients: Sequence[Ingredient], card: Card, doubtful: Collection[str] = ()
) -> tuple[Ingredient, dict[str, Barrier]]:
    """Return the linear barrier between each model and the best one by validation.

    Frankle et al. 2020, arXiv:1912.05671, in accuracy and at the midpoint only; Neyshabur et al. 2020,
    arXiv:2008.11687, for fine-tunes of one start. The best model may itself be the outlier: where most others have a
    barrier to it, the next best is tried, up to three; the reference with the fewest barriers is used.

    Args:
        context: the run; its judge scores the midpoints, with BatchNorm statistics as soups get them.
        ingredients: at least one model; equal layouts, known verdicts.
        card: the card of one of them.
        doubtful: names of models that cannot be the reference; not all of them.

    Returns:
        The reference model, and the barriers to it by the names of the others.
    """
    judge = LazyJudge(context, (Pool(tuple(ingredients)), card))
    tried = []
    for reference in best_first([each for each in ingredients if each.name not in doubtful])[:_REFERENCES]:
        others = [ingredient for ingredient in ingredients if ingredient is not reference]
        shown = track(others, f"barriers to {reference.name}")
        barriers = {other.name: barrier_between(context, judge, reference, other) for other in shown}
        harmful = sum(barrier.beyond_noise for barrier in barriers.values())
        tried.append((harmful, reference, barriers))
        if 2 * harmful <= len(others):
            break
    _, reference, barriers = min(tried, key=lambda each: each[0])
    return reference, barriers


def barrier_between(context: RunContext, judge: LazyJudge, one: Ingredient, other: Ingredient) -> Barrier:
    """Return the barrier at the midpoint, with an interval from the outcomes of all three models on the same images."""
    assert one.known_verdict is not None and other.known_verdict is not None
    verdicts = (one.known_verdict(), other.known_verdict(), judge(mean_state([one, other])))
    right = np.array([verdict.outcome == 1 for verdict in verdicts])
    lost = right[:2].mean(axis=0) - right[2]
    low, high = bootstrap_interval(lost, context.groups("val"))
    return Barrier(float(right[2].mean()), float(lost.mean()), low, high)
