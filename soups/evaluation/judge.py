"""The judge: how good are these weights on the validation set, and are they good enough?"""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np

from soups.errors import DataError
from soups.evaluation.logits import EvaluationSet, batch_logits, evaluating
from soups.evaluation.tallies import TALLIES, Tally
from soups.metrics import METRICS, predictions, probabilities
from soups.preprocessing import Preprocessing
from soups.recipes.pool import Accept, Verdict
from soups.runtime import Runtime

if TYPE_CHECKING:
    import torch

_SHORT_BATCHES = 50
"""The first quarter of the images comes in batches of one of so many parts; later ones grow to the batch size."""


class ValidationJudge:
    """Scores weights on the validation images, whatever recipe asks.

    The classifier is built once; each verdict puts other weights in its place. The images most often wrong come first,
    so that a candidate that is not good enough shows it soon. Which images share a batch is fixed for good, because it
    shows in the last bits of the logits; what is learnt of their mistakes orders whole batches.

    Args:
        classifier: of the pool's architecture, with any weights.
        validation: labelled images, at the geometry of `preprocessing`.
        preprocessing: of the pool.
        metric: a key of `METRICS`.
        runtime: device and precision.
        batch_size: images in one forward pass at the most.
        mistakes: (N,) int64, how many models are known to get each image wrong; None: nothing is known yet.
    """

    def __init__(
        self,
        classifier: "torch.nn.Module",
        validation: EvaluationSet,
        preprocessing: Preprocessing,
        metric: str,
        runtime: Runtime,
        batch_size: int,
        mistakes: np.ndarray | None = None,
    ) -> None:
        if not validation.labelled:
            raise DataError(f"{validation.name}: images without labels", expected="labelled validation images")
        self.classifier = classifier.to(runtime.device)
        self.validation = validation
        self.preprocessing = preprocessing
        self.metric = METRICS[metric]
        self.runtime = runtime
        self.batch_size = batch_size
        self.mistakes = np.zeros(len(validation.labels), dtype=np.int64) if mistakes is None else mistakes.copy()
        self.batches = list(_batches(np.argsort(-self.mistakes, kind="stable"), batch_size))

    def __call__(self, state: "Mapping[str, torch.Tensor]", accept: Accept | None = None) -> Verdict:
        """The verdict on these weights; its score is higher for better weights, whatever the metric.

        With `accept` the judge stops as soon as no outcome of the remaining images could be accepted: the decision is
        always the one that all images would give.
        """
        self.classifier.load_state_dict(state, strict=True)
        labels = self.validation.labels
        table = np.empty((len(labels), 0))
        errors = seen = 0
        tally: Tally | None = None
        with evaluating(self.classifier, self.runtime):
            for rows in sorted(self.batches, key=self._promise):
                part = probabilities(self._logits(rows))
                if tally is None:
                    table, tally = (
                        np.empty((len(labels), part.shape[1])),
                        TALLIES[self.metric.name](labels, part.shape[1]),
                    )
                table[rows] = part
                wrong = predictions(part) != labels[rows]
                self.mistakes[rows] += wrong
                errors, seen = errors + int(wrong.sum()), seen + len(rows)
                tally.add(rows, part)
                if accept is not None and seen < len(labels) and not accept.allows(tally.best_possible()):
                    return Verdict(tally.best_possible(), errors, seen, complete=False)
        return Verdict(self.metric.score(table, labels), errors, seen)

    def _promise(self, rows: np.ndarray) -> float:
        """Low for batches with many mistakes an image."""
        return -float(self.mistakes[rows].mean())

    def _logits(self, rows: np.ndarray) -> np.ndarray:
        import torch

        pixels = torch.from_numpy(self.validation.images.take(rows))
        return batch_logits(self.classifier, pixels, self.preprocessing, self.runtime)


def _batches(order: np.ndarray, batch_size: int) -> Iterator[np.ndarray]:
    """The images in this order, few at a time at first, where most of the mistakes are."""
    size, begin = max(1, min(batch_size, len(order) // _SHORT_BATCHES)), 0
    while begin < len(order):
        yield order[begin : begin + size]
        begin += size
        size = size if begin < len(order) // 4 else min(batch_size, 2 * size)
