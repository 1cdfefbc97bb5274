"""Running counts of what a candidate gets wrong, and the best score that it can still reach.

Each bound takes every image not yet seen as right: no outcome of the rest can beat that. Counts are integers and each
bound is computed by the metric's own formula, so where all images have been seen it *is* the metric, to the bit, and
rounding never makes a bound too low (a division and a sum of fixed length only fall when their terms do).
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from soups.core import scores

ROUNDING = 1e-9
"""Share of a sum of losses that rounding may be off by; a stop needs more than that."""


class ScoreBound(Protocol):
    """Takes in predictions, in any order, and knows the best score still possible."""

    def add(self, rows: np.ndarray, probabilities: np.ndarray) -> None:
        """Take in (B, C) float64 probabilities of the images `rows`, (B,) int64, each image once."""

    def best_possible(self) -> float:
        """The highest score (a loss negated) that the unseen images could still make of it."""


@dataclass
class _Counts:
    """Per class, (C,) int64: images, right predictions and predictions if all unseen images come out right."""

    labels: np.ndarray
    classes: int

    def __post_init__(self) -> None:
        self.support = np.bincount(self.labels, minlength=self.classes)
        self.hits, self.predicted = self.support.copy(), self.support.copy()

    def add(self, rows: np.ndarray, probabilities: np.ndarray) -> None:
        """Take in predictions."""
        predictions, labels = scores.predictions(probabilities), self.labels[rows]
        wrong = predictions != labels
        missed = np.bincount(labels[wrong], minlength=self.classes)
        self.hits -= missed
        self.predicted += np.bincount(predictions[wrong], minlength=self.classes) - missed


class AccuracyBound(_Counts):
    """Exact: errors are counted."""

    def best_possible(self) -> float:
        """All images but the errors so far."""
        return int(self.hits.sum()) / len(self.labels)


class BalancedAccuracyBound(_Counts):
    """Exact: errors are counted by class."""

    def best_possible(self) -> float:
        """Mean of the best recalls."""
        occurring = self.support > 0
        return float(np.mean(self.hits[occurring] / self.support[occurring]))


class MacroF1Bound(_Counts):
    """Exact: a further error can only lower the F1 of its two classes.

    A class that nobody has and nobody predicts does not count; the first false prediction of it adds a class with an F1
    of zero, which lowers the mean too.
    """

    def best_possible(self) -> float:
        """Mean of the best F1."""
        involved = (self.support + self.predicted) > 0
        return float(np.mean(2 * self.hits[involved] / (self.support + self.predicted)[involved]))


class LogLossBound:
    """Exact beyond rounding: losses are never negative, so their sum only grows."""

    def __init__(self, labels: np.ndarray, classes: int) -> None:
        self.labels, self.total = labels, 0.0

    def add(self, rows: np.ndarray, probabilities: np.ndarray) -> None:
        """Take in the losses of these images."""
        self.total += len(rows) * scores.log_loss(probabilities, self.labels[rows])

    def best_possible(self) -> float:
        """The mean if no further image costs anything, less what rounding may have added."""
        return -self.total * (1 - ROUNDING) / len(self.labels)


class NoBound:
    """For metrics without a bound: nothing is ever certain before the end."""

    def __init__(self, labels: np.ndarray, classes: int) -> None:
        pass

    def add(self, rows: np.ndarray, probabilities: np.ndarray) -> None:
        """Nothing to count."""

    def best_possible(self) -> float:
        """Anything."""
        return float("inf")
