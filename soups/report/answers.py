"""Predictions beside the labels of the same images, for the whole class and for each factor."""

from dataclasses import dataclass

import numpy as np

from soups.core.labels import LabelSpace
from soups.core.statistics import class_sums
from soups.report.per_class import confusion_matrix

JOINT = "class"
"""Name of the whole class (all factors together) beside the factors' names."""


@dataclass(frozen=True)
class LabelledPredictions:
    """The labels of images, and their predictions."""

    labels: np.ndarray
    """(N,) int64 in [0, C)."""
    predictions: np.ndarray
    """(N,) int64 in [0, C)."""
    groups: np.ndarray
    """(N,) names of the persons, writers, scenes; intervals resample them."""
    space: LabelSpace
    """The C classes."""
    confidences: np.ndarray | None = None
    """(N,) float in [0, 1]; None: not known."""
    probabilities: np.ndarray | None = None
    """(N, C) floats, rows summing to one; None: not known."""

    def by_factor(self) -> "dict[str, LabelledPredictions]":
        """Return these predictions as `class` and, if classes are made of several factors, those of each factor."""
        found = {JOINT: self}
        if len(self.space.factors) > 1:
            for name in self.space.factor_names:
                part = self.space.part([name])
                owner = self.space.projection(part)
                found[name] = LabelledPredictions(owner[self.labels], owner[self.predictions], self.groups, part)
        return found

    @property
    def matrix(self) -> np.ndarray:
        """Confusion matrix (C, C) int64; a row is a true class, a column a predicted one."""
        return confusion_matrix(self.labels, self.predictions, len(self.space))

    @property
    def sums(self) -> np.ndarray:
        """Sums of each group from which scores are computed; see `statistics.class_sums`."""
        return class_sums(self.labels, self.predictions, self.groups, len(self.space))
