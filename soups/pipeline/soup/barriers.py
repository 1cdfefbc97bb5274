"""Barriers between models: how much of their accuracy is lost at the midpoint of the line from one to the other."""

import logging
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from soups.checkpoints.checkpoint import Card
from soups.core.progress import track
from soups.core.statistics import bootstrap_interval
from soups.pipeline.score.context import RunContext
from soups.pipeline.soup.judge import LazyJudge
from soups.recipes.shared.pool import Ingredient, Pool, mean_state
from soups.recipes.shared.sweep import best_first

logger = logging.getLogger(__name__)

LARGEST = 0.02
"""The largest drop in accuracy that still counts as none: the margin that Frankle et al. 2020 take for noise. On the
demo, fine-tunes of one start lose up to 1.4 points, and a model whose neurons were put into another order (which
changes nothing in what it says) up to 35."""
_REFERENCES = 3
"""How many of the best models are tried as the one to compare with."""


@dataclass(frozen=True)
class Barrier:
    """What is lost half-way between two models."""

    midpoint: float
    """Accuracy of the mean of their weights, in [0, 1]."""
    drop: float
    """Mean of the two models' accuracies minus that: negative where the midpoint is better."""
    low: float
    high: float
    """95% interval of the drop, from resampled groups of validation images."""

    @property
    def beyond_noise(self) -> bool:
        """Whether averaging the two harms: a drop of more than `LARGEST`, and of more than nothing for certain."""
        return self.drop > LARGEST and self.low > 0

    @property
    def surely_none(self) -> bool:
        """Whether even the upper end of the interval is no more than `LARGEST`."""
        return self.high <= LARGEST


def measure_barriers(
    context: RunContext, ingredients: Sequence[Ingredient], card: Card, doubtful: Collection[str] = ()
) -> tuple[Ingredient, dict[str, Barrier]]:
    """The linear barrier between each model and the best by validation (Frankle et al. 2020, arXiv:1912.05671, in
    accuracy and at the midpoint alone; Neyshabur et al. 2020, arXiv:2008.11687, for fine-tunes of one start).

    The best may itself be the one that does not belong: where most others have a barrier to it, the next best is tried,
    up to three; the one with the fewest barriers counts.

    Args:
        context: the run; its judge scores the midpoints, with BatchNorm statistics as soups get them.
        ingredients: at least one, of one layout, with known verdicts.
        card: of one of them.
        doubtful: names of those that nobody is to be compared with; not all of them.

    Returns:
        The model compared with, and the barriers to it by the others' names.
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


def validation_accuracy(ingredient: Ingredient) -> float:
    """Share of the validation images that it gets right, in [0, 1], from its known verdict."""
    assert ingredient.known_verdict is not None
    verdict = ingredient.known_verdict()
    return 1 - verdict.errors / verdict.images


def barrier_between(context: RunContext, judge: LazyJudge, one: Ingredient, other: Ingredient) -> Barrier:
    """The barrier at the midpoint, with an interval from the outcomes of all three models on the same images."""
    assert one.known_verdict is not None and other.known_verdict is not None
    verdict = judge(mean_state([one, other]))
    ends = [ingredient.known_verdict().outcome for ingredient in (one, other) if ingredient.known_verdict is not None]
    assert verdict.outcome is not None
    lost = np.mean([outcome == 1 for outcome in ends], axis=0) - (verdict.outcome == 1)
    low, high = bootstrap_interval(lost, context.groups("val"))
    return Barrier(float((verdict.outcome == 1).mean()), float(lost.mean()), low, high)
