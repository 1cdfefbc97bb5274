"""The judge of a run: its validation images and network, set up when the first verdict is asked for."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from soups.data.samples import set_rows
from soups.metrics import predictions
from soups.pipeline.evaluate import Bench, pool_paths
from soups.pipeline.pool import card_of
from soups.pipeline.sets import evaluation_set
from soups.recipes.pool import Accept, Judge, Verdict
from soups.runtime import limit_threads


@dataclass
class LazyJudge:
    """The judge of a run's validation set, built when the first verdict is asked for."""

    bench: Bench
    judge: Judge | None = None

    def __call__(self, state: Any, accept: Accept | None = None) -> Verdict:
        """The verdict on these weights."""
        if self.judge is None:
            self.judge = self._build()
        return self.judge(state, accept)

    def _build(self) -> Judge:
        from soups.evaluation.judge import ValidationJudge
        from soups.models.build import build_empty

        bench = self.bench
        limit_threads(bench.runtime.threads)
        card = card_of(next(iter(pool_paths(bench.run).values())))
        validation = evaluation_set(
            "val", set_rows(bench.run.samples, "val"), bench.run, card.preprocessing, bench.cache
        )
        return ValidationJudge(
            build_empty(card.architecture, card.classes),
            validation,
            card.preprocessing,
            bench.evaluation.metric,
            bench.runtime,
            bench.evaluation.eval_batch_size,
            self._known_mistakes(),
        )

    def _known_mistakes(self) -> np.ndarray:
        """How many of the pool's models get each validation image wrong, from their kept logits."""
        labels = self.bench.labels("val")
        outputs = [self.bench.probabilities(path, ["val"])["val"] for path in pool_paths(self.bench.run).values()]
        return np.sum([predictions(values) != labels for values in outputs], axis=0)
