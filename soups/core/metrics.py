"""The registry of metrics. A new metric is one entry of `METRICS`: its score, direction, bound and vote score."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from soups.core import score_bounds, scores
from soups.core.score_bounds import ScoreBound

ScoreFunction = Callable[[np.ndarray, np.ndarray], float]
VoteScore = Callable[[np.ndarray, np.ndarray, np.ndarray, float], float]


@dataclass(frozen=True)
class Metric:
    """A metric with everything that is particular to it."""

    name: str
    function: ScoreFunction
    """`(probabilities (N, C) float64, labels (N,) int64) -> float`."""
    higher_is_better: bool
    bound: Callable[[np.ndarray, int], ScoreBound] = ScoreBound
    """`(labels (N,) int64, number of classes) -> ScoreBound`, to stop the scoring of a candidate early; `ScoreBound`
    itself never stops it."""
    vote_score: VoteScore | None = None
    """The same score, higher is better, from the predictions (N,), labels (N,), confidences (N,) and the log-loss of a
    vote: ensemble selection scores thousands of votes. None: ensemble selection builds the table of each vote."""

    def score(self, probabilities: np.ndarray, labels: np.ndarray) -> float:
        """Return the metric, negated where lower is better: recipes and judges prefer the larger score."""
        value = self.function(probabilities, labels)
        return value if self.higher_is_better else -value


def all_scores(probabilities: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Return every metric by name, in the order of `METRICS`.

    Args:
        probabilities: (N, C) float64, rows summing to one (`scores.softmax` converts logits).
        labels: (N,) int64, true classes.

    Raises:
        DataError: shapes do not fit, there is no image, a label is not a class index, or a probability is NaN.
    """
    return {name: metric.function(probabilities, labels) for name, metric in METRICS.items()}


def _vote_accuracy(predicted: np.ndarray, labels: np.ndarray, confidence: np.ndarray, log_loss: float) -> float:
    return float(np.count_nonzero(predicted == labels) / len(labels))


def _vote_recall(predicted: np.ndarray, labels: np.ndarray, confidence: np.ndarray, log_loss: float) -> float:
    support = np.bincount(labels)
    return scores.mean_share(np.bincount(labels[predicted == labels], minlength=len(support)), support)


def _vote_macro_f1(predicted: np.ndarray, labels: np.ndarray, confidence: np.ndarray, log_loss: float) -> float:
    classes = int(max(predicted.max(), labels.max())) + 1
    involved = np.bincount(labels, minlength=classes) + np.bincount(predicted, minlength=classes)
    return scores.mean_share(2 * np.bincount(labels[predicted == labels], minlength=classes), involved)


def _vote_log_loss(predicted: np.ndarray, labels: np.ndarray, confidence: np.ndarray, log_loss: float) -> float:
    return -log_loss


def _vote_calibration(predicted: np.ndarray, labels: np.ndarray, confidence: np.ndarray, log_loss: float) -> float:
    return -scores.calibration_gap(predicted == labels, confidence)


METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("accuracy", scores.accuracy, True, score_bounds.AccuracyBound, _vote_accuracy),
        Metric("balanced_accuracy", scores.balanced_accuracy, True, score_bounds.BalancedAccuracyBound, _vote_recall),
        Metric("macro_f1", scores.macro_f1, True, score_bounds.MacroF1Bound, _vote_macro_f1),
        Metric("log_loss", scores.log_loss, False, score_bounds.LogLossBound, _vote_log_loss),
        Metric("calibration_error", scores.calibration_error, False, ScoreBound, _vote_calibration),
    )
}
