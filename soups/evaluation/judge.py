"""The judge: how good are these weights on the validation set, and are they good enough?"""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np

from soups.core.errors import DataError
from soups.core.metrics import METRICS, Metric
from soups.core.preprocessing import Preprocessing
from soups.core.score_bounds import LogLossBound, ScoreBound
from soups.core.scores import log_loss, predictions, softmax
from soups.evaluation import gradients
from soups.evaluation.batchnorm import BatchNormRecomputer
from soups.evaluation.logits import EvaluationSet, batch_logits, inference_mode_at
from soups.recipes.shared.pool import Accept, Verdict
from soups.runtime.devices import Runtime

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
        settler: computes the statistics of BatchNorm anew for every state that is judged; None: as they are.
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
        settler: BatchNormRecomputer | None = None,
    ) -> None:
        if not validation.labelled:
            raise DataError(f"{validation.name}: images without labels", expected="labelled validation images")
        self.classifier = classifier.to(runtime.device)
        self.validation = validation
        self.preprocessing = preprocessing
        self.metric = METRICS[metric]
        self.runtime = runtime
        self.batch_size = batch_size
        self.settler = settler
        self.mistakes = np.zeros(len(validation.labels), dtype=np.int64) if mistakes is None else mistakes.copy()
        self.batches = list(_batches(np.argsort(-self.mistakes, kind="stable"), batch_size))

    def __call__(self, state: "Mapping[str, torch.Tensor]", accept: Accept | None = None) -> Verdict:
        """The verdict on these weights; its score is higher for better weights, whatever the metric.

        With `accept` the judge stops as soon as no outcome of the remaining images could be accepted: the decision is
        always the one that all images would give.
        """
        self._put_in(state)
        verdicts = _Verdicts(self.validation.labels, self.metric)
        with inference_mode_at(self.classifier, self.runtime):
            for rows in sorted(self.batches, key=self._promise):
                part = softmax(self._logits(rows))
                self.mistakes[rows] += verdicts.add(rows, part)
                if accept is not None and not verdicts.complete and not accept.allows(verdicts.at_best()):
                    return verdicts.at_best()
        return verdicts.final()

    def settled(self, state: "Mapping[str, torch.Tensor]") -> "Mapping[str, torch.Tensor]":
        """The state as it is judged, for the soup's file: with statistics of BatchNorm of its own."""
        if self.settler is None:
            return state
        self.classifier.load_state_dict(state, strict=True)
        return self.settler.settled(self.classifier, state)

    def gradient(self, state: "Mapping[str, torch.Tensor]", seed: int) -> "tuple[float, dict[str, torch.Tensor]]":
        """Mean log-loss in nats on the validation images drawn by `seed`, and its gradient; see `gradients`."""
        self._take_in(state)
        rows = gradients.sample_images(len(self.validation.labels), seed)
        return gradients.log_loss_gradient(
            self.classifier, self.validation, rows, self.preprocessing, self.runtime, self.batch_size
        )

    def fisher(self, state: "Mapping[str, torch.Tensor]", seed: int) -> "dict[str, torch.Tensor]":
        """The diagonal of the Fisher information on validation images drawn by `seed`; see `gradients`."""
        self._take_in(state)
        return gradients.fisher_diagonal(self.classifier, self.validation, self.preprocessing, self.runtime, seed)

    def _take_in(self, state: "Mapping[str, torch.Tensor]") -> None:
        """Put in a state that may compute its tensors as they are asked for, without another copy of it."""
        gradients.assign_weights(self.classifier, state)
        if self.settler is not None:
            self.settler.settle(self.classifier, state)

    def _put_in(self, state: "Mapping[str, torch.Tensor]") -> None:
        self.classifier.load_state_dict(state, strict=True)
        if self.settler is not None:
            self.settler.settle(self.classifier, state)

    def _promise(self, rows: np.ndarray) -> float:
        """Low for batches with many mistakes an image."""
        return -float(self.mistakes[rows].mean())

    def _logits(self, rows: np.ndarray) -> np.ndarray:
        import torch

        pixels = torch.from_numpy(self.validation.images.take(rows))
        return batch_logits(self.classifier, pixels, self.preprocessing, self.runtime)


class _Verdicts:
    """What is known of one state's score while its images come in."""

    def __init__(self, labels: np.ndarray, metric: Metric) -> None:
        self.labels, self.metric = labels, metric
        self.table = np.empty((len(labels), 0))
        self.outcome = np.full(len(labels), -1, dtype=np.int8)
        self.seen = self.errors = 0
        self.tally: ScoreBound | None = None
        self.losses = LogLossBound(labels, 0)

    @property
    def complete(self) -> bool:
        """Whether all images are in."""
        return self.seen == len(self.labels)

    def add(self, rows: np.ndarray, part: np.ndarray) -> np.ndarray:
        """Take in (B, C) probabilities of the images `rows`; which of them are wrong, (B,) bool."""
        if self.tally is None:
            self.table = np.empty((len(self.labels), part.shape[1]))
            self.tally = self.metric.bound(self.labels, part.shape[1])
        self.table[rows] = part
        wrong = predictions(part) != self.labels[rows]
        self.outcome[rows] = ~wrong
        self.errors, self.seen = self.errors + int(wrong.sum()), self.seen + len(rows)
        self.tally.add(rows, part)
        self.losses.add(rows, part)
        return wrong

    def at_best(self) -> Verdict:
        """The verdict if nothing more goes wrong."""
        assert self.tally is not None
        score, loss = self.tally.best_possible(), -self.losses.best_possible()
        return Verdict(score, self.errors, self.seen, False, loss, self.outcome)

    def final(self) -> Verdict:
        """The verdict on all images, by the metrics' own formulas."""
        score, loss = self.metric.score(self.table, self.labels), log_loss(self.table, self.labels)
        return Verdict(score, self.errors, self.seen, True, loss, self.outcome)


def _batches(order: np.ndarray, batch_size: int) -> Iterator[np.ndarray]:
    """The images in this order, few at a time at first, where most of the mistakes are."""
    size, begin = max(1, min(batch_size, len(order) // _SHORT_BATCHES)), 0
    while begin < len(order):
        yield order[begin : begin + size]
        begin += size
        size = size if begin < len(order) // 4 else min(batch_size, 2 * size)
