"""The judge of a run: its validation images and network, loaded when the first verdict is requested."""

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from soups.checkpoints.card import Card
from soups.data.images.memory_cache import MemoryCachedImages
from soups.pipeline.score.context import RunContext
from soups.recipes.shared.pool import Accept, Pool, Verdict
from soups.runtime.devices import limit_threads

if TYPE_CHECKING:
    from soups.evaluation.judge import ValidationJudge


@dataclass
class LazyJudge:
    """Judge on the validation set of a run, built when the first verdict is requested."""

    context: RunContext
    pool: tuple[Pool, Card]
    """Ingredients of the soups and the card of one of them."""
    batchnorm: str | None = None
    """`recompute` or `average` the BatchNorm statistics of soups; None: whichever scores better on validation."""
    statistics: dict[str, Any] = field(default_factory=dict)
    """What a soup's card records of its BatchNorm statistics, once the judge is built; see `choose_batchnorm`."""

    def __call__(self, state: Any, accept: Accept | None = None) -> Verdict:
        """Return the verdict on these weights."""
        return self.judge(state, accept)

    def gradient(self, state: Any, seed: int) -> tuple[float, Any]:
        """Return the log-loss on some validation images and its gradient; see `recipes.shared.pool.GradientJudge`."""
        return self.judge.gradient(state, seed)

    def fisher(self, state: Any, seed: int) -> Any:
        """Return the diagonal of the Fisher information; see `recipes.shared.pool.GradientJudge`."""
        return self.judge.fisher(state, seed)

    def with_batchnorm(self, state: Any) -> Any:
        """Return the weights of a soup as they are judged: with recomputed BatchNorm statistics, where it needs them.

        For a network without BatchNorm they are the state itself, and nothing is built or opened.
        """
        from soups.evaluation.batchnorm import has_statistics

        return self.judge.with_batchnorm(state) if has_statistics(state) else state

    @cached_property
    def judge(self) -> "ValidationJudge":
        """The judge; sets `statistics` when it is built."""
        from soups.evaluation.judge import ValidationJudge
        from soups.models.build import build_empty
        from soups.pipeline.soup.batchnorm import choose_batchnorm

        context = self.context
        limit_threads(context.runtime.threads)
        pool, card = self.pool
        validation = context.open_set("val", card)
        judge = ValidationJudge(
            build_empty(card.architecture, card.classes),
            replace(validation, images=MemoryCachedImages(validation.images)),
            card.preprocessing,
            context.evaluation.metric,
            context.runtime,
            context.evaluation.eval_batch_size,
            _known_mistakes(pool),
        )
        self.statistics = choose_batchnorm(judge, context, pool, card, self.batchnorm)
        return judge


def _known_mistakes(pool: Pool) -> np.ndarray | None:
    """Return how many models of the pool get each validation image wrong, where the logs cover all models."""
    verdicts = [part.known_verdict() for part in pool.ingredients if part.known_verdict is not None]
    outcomes = [verdict.outcome for verdict in verdicts if verdict.outcome is not None]
    return np.sum([outcome == 0 for outcome in outcomes], axis=0) if len(outcomes) == len(pool.ingredients) else None
