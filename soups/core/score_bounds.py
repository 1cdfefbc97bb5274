"""Upper bounds of a candidate's score from the images scored so far; they stop hopeless candidates early.

A bound counts every image not yet scored as correct, so no outcome can exceed it. Counts are integers and the bound
uses the metric's own formula: after all images it equals the metric to the bit. Rounding never makes a bound too low,
because a division and a sum of fixed length only decrease when their terms do.
"""

import numpy as np

from soups.core import scores

ROUNDING = 1e-9
"""Relative rounding error that is allowed for in a sum of losses."""


class ScoreBound:
    """Accumulates predictions, in any order, and computes the best score still possible.

    This base class is for metrics without a bound: the scoring never stops early.

    Args:
        labels: (N,) int64, true classes.
        classes: number of classes.
    """

    def __init__(self, labels: np.ndarray, classes: int) -> None:
        self.labels, self.classes = labels, classes

    def add(self, rows: np.ndarray, probabilities: np.ndarray) -> None:
        """Add (B, C) float64 probabilities of the images `rows`, (B,) int64; each image is added once."""

    def best_possible(self) -> float:
        """Return the highest score (losses are negated) that is still possible, whatever the remaining predictions."""
        return float("inf")


class _Counts(ScoreBound):
    """Counts per class, each (C,) int64, if all images not yet added are predicted correctly.

    `support`: images of the class. `hits`: correct predictions. `predicted`: predictions of the class.
    """

    def __init__(self, labels: np.ndarray, classes: int) -> None:
        super().__init__(labels, classes)
        self.support = np.bincount(labels, minlength=classes)
        self.hits, self.predicted = self.support.copy(), self.support.copy()

    def add(self, rows: np.ndarray, probabilities: np.ndarray) -> None:
        """Add the predictions of a batch of images."""
        predictions, labels = scores.predictions(probabilities), self.labels[rows]
        wrong = predictions != labels
        missed = np.bincount(labels[wrong], minlength=self.classes)
        self.hits -= missed
        self.predicted += np.bincount(predictions[wrong], minlength=self.classes) - missed


class AccuracyBound(_Counts):
    """The exact bound of accuracy."""

    def best_possible(self) -> float:
        """Return the share of images without an error so far."""
        return int(self.hits.sum()) / len(self.labels)


class BalancedAccuracyBound(_Counts):
    """The exact bound of balanced accuracy."""

    def best_possible(self) -> float:
        """Return the mean over classes of the highest recall still possible."""
        return scores.mean_share(self.hits, self.support)


class MacroF1Bound(_Counts):
    """The exact bound of macro-F1: a further error can only lower the F1 of its two classes.

    A class without images and predictions does not count. The first false prediction of it adds a class with an F1 of
    zero, which lowers the mean too.
    """

    def best_possible(self) -> float:
        """Return the mean over classes of the highest F1 still possible."""
        return scores.mean_share(2 * self.hits, self.support + self.predicted)


class LogLossBound(ScoreBound):
    """The bound of the negated log-loss, exact up to rounding: losses are not negative, so their sum only grows."""

    def __init__(self, labels: np.ndarray, classes: int) -> None:
        super().__init__(labels, classes)
        self.total = 0.0

    def add(self, rows: np.ndarray, probabilities: np.ndarray) -> None:
        """Add the losses of a batch of images."""
        self.total += len(rows) * scores.log_loss(probabilities, self.labels[rows])

    def best_possible(self) -> float:
        """Return the negated mean loss if all remaining losses are zero, minus the rounding allowance."""
        return -self.total * (1 - ROUNDING) / len(self.labels)
