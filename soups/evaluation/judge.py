"""The judge of recipes: scores states on the validation set, and stops early when a candidate cannot be accepted."""

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
"""The first quarter of the images is split into batches of 1/50 of all images; later batches grow to the full size."""


class ValidationJudge:
    """Scores states on the validation images.

    The classifier is built once; each verdict loads another state. Images that are most often misclassified come first,
    so that a candidate is rejected early. Which images share a batch never changes, because the last bits of the logits
    depend on it; mistakes found later only change the order of whole batches.

    Args:
        classifier: a network of the pool's architecture, with any weights.
        validation: labelled images, at the geometry of `preprocessing`.
        preprocessing: preprocessing of the pool.
        metric: a key of `METRICS`.
        runtime: device and precision.
        batch_size: maximum images in one forward pass.
        mistakes: (N,) int64, number of models known to misclassify each image; None: unknown.
        recomputer: recomputes the BatchNorm statistics of every judged state; None: the state's statistics are used.
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
        recomputer: BatchNormRecomputer | None = None,
    ) -> None:
        if not validation.labelled:
            raise DataError(f"{validation.name}: images without labels", expected="labelled validation images")
        self.classifier = classifier.to(runtime.device)
        self.validation = validation
        self.preprocessing = preprocessing
        self.metric = METRICS[metric]
        self.runtime = runtime
        self.batch_size = batch_size
        self.recomputer = recomputer
        self.mistakes = np.zeros(len(validation.labels), dtype=np.int64) if mistakes is None else mistakes.copy()
        self.batches = list(_batches(np.argsort(-self.mistakes, kind="stable"), batch_size))

    def __call__(self, state: "Mapping[str, torch.Tensor]", accept: Accept | None = None) -> Verdict:
        """Returns the verdict on a state; its score is higher for better weights, for every metric.

        With `accept` the judge stops as soon as no outcome of the remaining images could be accepted, so the decision
        is always the same as on all images.
        """
        import torch

        self._load(state)
        progress = _PartialResult(self.validation.labels, self.metric)
        with inference_mode_at(self.classifier, self.runtime):
            for rows in sorted(self.batches, key=lambda rows: -float(self.mistakes[rows].mean())):
                pixels = torch.from_numpy(self.validation.images.take(rows))
                part = softmax(batch_logits(self.classifier, pixels, self.preprocessing, self.runtime))
                self.mistakes[rows] += progress.add(rows, part)
                remaining = progress.seen < len(self.validation.labels)
                if accept is not None and remaining and not accept.allows(progress.at_best()):
                    return progress.at_best()
        return progress.final()

    def with_batchnorm(self, state: "Mapping[str, torch.Tensor]") -> "Mapping[str, torch.Tensor]":
        """Returns the judged weights for a soup's file: `state` with BatchNorm statistics recomputed, if any."""
        if self.recomputer is None:
            return state
        gradients.assign_weights(self.classifier, state)
        return self.recomputer.recomputed_state(self.classifier, state)

    def gradient(self, state: "Mapping[str, torch.Tensor]", seed: int) -> "tuple[float, dict[str, torch.Tensor]]":
        """Returns the mean log-loss in nats on validation images drawn by `seed`, and its gradient; see `gradients`."""
        self._load(state)
        rows = gradients.sample_images(len(self.validation.labels), seed)
        return gradients.log_loss_gradient(
            self.classifier, self.validation, rows, self.preprocessing, self.runtime, self.batch_size
        )

    def fisher(self, state: "Mapping[str, torch.Tensor]", seed: int) -> "dict[str, torch.Tensor]":
        """Returns the diagonal of the Fisher information on images drawn by `seed`; see `gradients`."""
        self._load(state)
        return gradients.fisher_diagonal(self.classifier, self.validation, self.preprocessing, self.runtime, seed)

    def _load(self, state: "Mapping[str, torch.Tensor]") -> None:
        """Loads a state one tensor at a time: it may compute each tensor on access, and is never held as a whole."""
        gradients.assign_weights(self.classifier, state)
        if self.recomputer is not None:
            self.recomputer.recompute(self.classifier, state)


class _PartialResult:
    """The score of one state on the images seen so far."""

    def __init__(self, labels: np.ndarray, metric: Metric) -> None:
        self.labels, self.metric = labels, metric
        self.table = np.empty((len(labels), 0))
        self.outcome = np.full(len(labels), -1, dtype=np.int8)
        self.seen = self.errors = 0
        self.bound: ScoreBound | None = None
        self.loss_bound = LogLossBound(labels, 0)

    def add(self, rows: np.ndarray, part: np.ndarray) -> np.ndarray:
        """Adds the probabilities (B, C) of the images `rows` (B,); returns which are wrong, (B,) bool."""
        if self.bound is None:
            self.table = np.empty((len(self.labels), part.shape[1]))
            self.bound = self.metric.bound(self.labels, part.shape[1])
        self.table[rows] = part
        wrong = predictions(part) != self.labels[rows]
        self.outcome[rows] = ~wrong
        self.errors, self.seen = self.errors + int(wrong.sum()), self.seen + len(rows)
        self.bound.add(rows, part)
        self.loss_bound.add(rows, part)
        return wrong

    def at_best(self) -> Verdict:
        """Returns the verdict if all remaining images are classified correctly."""
        assert self.bound is not None
        score, loss = self.bound.best_possible(), -self.loss_bound.best_possible()
        return Verdict(score, self.errors, self.seen, False, loss, self.outcome)

    def final(self) -> Verdict:
        """Returns the verdict on all images, by the metric's own formula."""
        score, loss = self.metric.score(self.table, self.labels), log_loss(self.table, self.labels)
        return Verdict(score, self.errors, self.seen, True, loss, self.outcome)


def _batches(order: np.ndarray, batch_size: int) -> Iterator[np.ndarray]:
    """Splits images into batches: small ones first, because most mistakes are there."""
    size, begin = max(1, min(batch_size, len(order) // _SHORT_BATCHES)), 0
    while begin < len(order):
        yield order[begin : begin + size]
        begin += size
        size = size if begin < len(order) // 4 else min(batch_size, 2 * size)
