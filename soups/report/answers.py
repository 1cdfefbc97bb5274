"""What was predicted of images, beside the truth, as a whole and of each factor."""

from dataclasses import dataclass

import numpy as np

from soups.core.labels import LabelSpace
from soups.core.statistics import class_sums
from soups.report.per_class import confusion

JOINT = "class"
"""What the answers to all factors together are called, beside the factors' names."""


@dataclass(frozen=True)
class LabelledPredictions:
    """The truth about images, and what was predicted."""

    labels: np.ndarray
    """(N,) int64 in [0, C)."""
    predictions: np.ndarray
    """(N,) int64 in [0, C)."""
    groups: np.ndarray
    """(N,) names of the persons, writers, scenes; intervals resample them."""
    space: LabelSpace
    """C classes."""
    confidences: np.ndarray | None = None
    """(N,) float in [0, 1], where they are known."""

    def parts(self) -> "dict[str, LabelledPredictions]":
        """These answers as `class`, and where classes are made of several factors, those about each of them."""
        found = {JOINT: self}
        if len(self.space.factors) > 1:
            for name in self.space.factor_names:
                part = self.space.part([name])
                owner = self.space.projection(part)
                found[name] = LabelledPredictions(owner[self.labels], owner[self.predictions], self.groups, part)
        return found

    @property
    def matrix(self) -> np.ndarray:
        """Confusion matrix (C, C) int64, rows the truth."""
        return confusion(self.labels, self.predictions, len(self.space))

    @property
    def sums(self) -> np.ndarray:
        """What scores are made of, for each group; see `statistics.class_sums`."""
        return class_sums(self.labels, self.predictions, self.groups, len(self.space))
