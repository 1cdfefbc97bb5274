"""The judge: how good are these weights on the validation set?"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from soups.errors import DataError
from soups.evaluation.logits import EvaluationSet, compute_logits
from soups.metrics import METRICS, probabilities
from soups.preprocessing import Preprocessing
from soups.recipes.pool import Verdict
from soups.runtime import Runtime

if TYPE_CHECKING:
    import torch


class ValidationJudge:
    """Scores weights on the validation images, whatever recipe asks.

    The classifier is built once; each verdict puts other weights in its place.
    """

    def __init__(
        self,
        classifier: "torch.nn.Module",
        validation: EvaluationSet,
        preprocessing: Preprocessing,
        metric: str,
        runtime: Runtime,
        batch_size: int,
    ) -> None:
        if not validation.labelled:
            raise DataError(f"{validation.name}: images without labels", expected="labelled validation images")
        self.classifier = classifier.to(runtime.device)
        self.validation = validation
        self.preprocessing = preprocessing
        self.metric = METRICS[metric]
        self.runtime = runtime
        self.batch_size = batch_size

    def __call__(self, state: "Mapping[str, torch.Tensor]") -> Verdict:
        """The verdict on these weights; its score is higher for better weights, whatever the metric."""
        self.classifier.load_state_dict(state, strict=True)
        logits = compute_logits(
            self.classifier, self.validation.images, self.preprocessing, self.runtime, self.batch_size
        )
        labels = self.validation.labels
        value = self.metric.function(probabilities(logits), labels)
        return Verdict(
            score=value if self.metric.higher_is_better else -value,
            errors=int(np.count_nonzero(logits.argmax(axis=1) != labels)),
            images=len(labels),
            complete=True,
        )
