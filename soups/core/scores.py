"""Scores from probabilities and labels: accuracy, balanced accuracy, macro-F1, log-loss, calibration error.

Written in NumPy, because the judge scores every candidate soup and importing scikit-learn takes a second; the tests
compare each formula with scikit-learn. The prediction is the most probable class, the lowest index where several tie.
"""

import numpy as np

from soups.core.errors import DataError

CALIBRATION_BINS = 15


def probabilities(logits: np.ndarray) -> np.ndarray:
    """Softmax of (N, C) logits of any float dtype, as (N, C) float64 whose rows sum to one.

    Raises:
        DataError: a row holds NaN or infinity; names the first such row.
    """
    table = np.array(logits, dtype=np.float64)
    if table.ndim != 2 or table.shape[1] == 0:
        raise DataError("logits of the wrong shape", expected="(images, classes)", found=str(table.shape))
    highest = table.max(axis=1, keepdims=True)
    # A lone -inf says "impossible" and is fine; NaN, +inf and a row of -inf all show in the maximum.
    broken = np.flatnonzero(~np.isfinite(highest[:, 0]))
    if len(broken):
        raise DataError(
            f"logits of image {broken[0]} (counted from 0) are not finite",
            expected="numbers",
            found=f"NaN or infinity for {len(broken)} of {len(table)} images",
            next_step="the model has probably diverged in training: leave it out or train it with a lower --lr",
        )
    # In place: for 50,000 images and 1,000 classes each copy is 400 MB.
    table -= highest
    np.exp(table, out=table)
    table /= table.sum(axis=1, keepdims=True)
    return table


def predictions(probabilities: np.ndarray) -> np.ndarray:
    """The most probable class of each row, (N,) int64; the lowest index where several tie."""
    return np.argmax(probabilities, axis=1).astype(np.int64)


def correct(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Which predictions are right, (N,) bool."""
    _check(probabilities, labels)
    return predictions(probabilities) == labels


def errors(probabilities: np.ndarray, labels: np.ndarray) -> int:
    """How many predictions are wrong."""
    return int(np.count_nonzero(~correct(probabilities, labels)))


def _check(probabilities: np.ndarray, labels: np.ndarray) -> None:
    if probabilities.ndim != 2 or labels.shape != probabilities.shape[:1]:
        raise DataError(
            "probabilities and labels do not fit each other",
            expected="(images, classes) and (images,)",
            found=f"{probabilities.shape} and {labels.shape}",
        )
    if len(labels) == 0:
        raise DataError("no images to score", expected="at least one labelled image")
    if labels.min() < 0 or labels.max() >= probabilities.shape[1]:
        wrong = labels[(labels < 0) | (labels >= probabilities.shape[1])][0]
        raise DataError(f"label {wrong} is no class", expected=f"0 to {probabilities.shape[1] - 1}")
    if np.isnan(probabilities).any():
        raise DataError("probabilities hold NaN", next_step="the model has probably diverged: leave it out")


def _counts(probabilities: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Per class, (C,) int64 each: predicted rightly, images of the class, predictions of the class."""
    classes = probabilities.shape[1]
    right = correct(probabilities, labels)
    return (
        np.bincount(labels[right], minlength=classes),
        np.bincount(labels, minlength=classes),
        np.bincount(predictions(probabilities), minlength=classes),
    )


def accuracy(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Share of right predictions: exactly (images - errors) / images."""
    return (len(labels) - errors(probabilities, labels)) / len(labels)


def balanced_accuracy(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Mean recall of the classes that occur in `labels`."""
    hits, support, _ = _counts(probabilities, labels)
    occurring = support > 0
    return float(np.mean(hits[occurring] / support[occurring]))


def macro_f1(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Mean F1 of the classes that occur in `labels` or are predicted, as scikit-learn's `f1_score(average="macro")`."""
    hits, support, predicted = _counts(probabilities, labels)
    involved = (support + predicted) > 0
    return float(np.mean(2 * hits[involved] / (support + predicted)[involved]))


def log_loss(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Mean negative natural logarithm of the true class's probability, in nats.

    A probability below float64's epsilon counts as epsilon (as in scikit-learn), so that one image costs 36 at most.
    """
    _check(probabilities, labels)
    chosen = probabilities[np.arange(len(labels)), labels].astype(np.float64)
    return float(-np.mean(np.log(np.clip(chosen, np.finfo(np.float64).eps, 1.0))))


def calibration_error(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Expected calibration error of the top class: Guo et al. 2017, "On Calibration of Modern Neural Networks", eq. 3.

    The confidences fall into 15 bins of equal width, ((m - 1)/15, m/15]; the error is the mean over images of
    |accuracy - mean confidence| of the image's bin.
    """
    right = correct(probabilities, labels)
    confidence = probabilities.max(axis=1).astype(np.float64)
    bins = np.clip(np.ceil(confidence * CALIBRATION_BINS).astype(np.int64) - 1, 0, CALIBRATION_BINS - 1)
    gap = np.bincount(bins, weights=right - confidence, minlength=CALIBRATION_BINS)
    return float(np.abs(gap).sum() / len(labels))
