"""Scores from probabilities and labels: accuracy, balanced accuracy, macro-F1, log-loss, calibration error.

They use NumPy alone, because importing scikit-learn takes a second; the tests compare each formula with scikit-learn.
The prediction is the most probable class, the lowest index in a tie.
"""

import numpy as np

from soups.core.errors import DataError

CALIBRATION_BINS = 15


def softmax(logits: np.ndarray) -> np.ndarray:
    """Return the softmax of (N, C) logits of any float dtype: (N, C) float64 whose rows sum to one.

    Raises:
        DataError: a row holds NaN or +infinity, or only -infinity; the message names the first such row.
    """
    table = np.array(logits, dtype=np.float64)
    if table.ndim != 2 or table.shape[1] == 0:
        raise DataError("logits of the wrong shape", expected="(images, classes)", found=str(table.shape))
    highest = table.max(axis=1, keepdims=True)
    # A single -inf is a probability of zero and valid; NaN, +inf and a row of -inf make the maximum not finite.
    invalid = np.flatnonzero(~np.isfinite(highest[:, 0]))
    if len(invalid):
        raise DataError(
            f"logits of image {invalid[0]} (counted from 0) are not finite",
            expected="finite numbers",
            found=f"NaN or infinity for {len(invalid)} of {len(table)} images",
            next_step="the model has probably diverged in training: leave it out or train it with a lower --lr",
        )
    # In place, because for 50,000 images and 1,000 classes each copy takes 400 MB.
    table -= highest
    np.exp(table, out=table)
    table /= table.sum(axis=1, keepdims=True)
    return table


def predictions(probabilities: np.ndarray) -> np.ndarray:
    """Return the most probable class of each row, (N,) int64; the lowest index in a tie."""
    return np.argmax(probabilities, axis=1).astype(np.int64)


def correct(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return whether each prediction is correct, (N,) bool."""
    _require_valid_input(probabilities, labels)
    return predictions(probabilities) == labels


def _require_valid_input(probabilities: np.ndarray, labels: np.ndarray) -> None:
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
        raise DataError(f"label {wrong} is not a class index", expected=f"0 to {probabilities.shape[1] - 1}")
    if np.isnan(probabilities).any():
        raise DataError("probabilities hold NaN", next_step="the model has probably diverged: leave it out")


def _count_by_class(probabilities: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return correct predictions, images and predictions of each class, (C,) int64 each."""
    classes = probabilities.shape[1]
    right = correct(probabilities, labels)
    return (
        np.bincount(labels[right], minlength=classes),
        np.bincount(labels, minlength=classes),
        np.bincount(predictions(probabilities), minlength=classes),
    )


def mean_share(parts: np.ndarray, wholes: np.ndarray) -> float:
    """Return the mean of part / whole over the classes whose whole is not 0; both are (C,) counts."""
    occurring = wholes > 0
    return float(np.mean(parts[occurring] / wholes[occurring]))


def accuracy(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Return the share of correct predictions: exactly (images - errors) / images."""
    return int(np.count_nonzero(correct(probabilities, labels))) / len(labels)


def balanced_accuracy(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Return the mean recall of the classes that occur in `labels`."""
    hits, support, _ = _count_by_class(probabilities, labels)
    return mean_share(hits, support)


def macro_f1(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Return the mean F1 of the classes that occur in `labels` or are predicted.

    Equals scikit-learn's `f1_score(average="macro")`.
    """
    hits, support, predicted = _count_by_class(probabilities, labels)
    return mean_share(2 * hits, support + predicted)


def log_loss(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Return the mean negative natural logarithm of the true class's probability, in nats.

    A probability below float64's epsilon counts as epsilon (as in scikit-learn), so that one image adds at most 36
    nats.
    """
    _require_valid_input(probabilities, labels)
    true_class = probabilities[np.arange(len(labels)), labels].astype(np.float64)
    return float(-np.mean(np.log(np.clip(true_class, np.finfo(np.float64).eps, 1.0))))


def calibration_error(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Return the expected calibration error of the predicted class.

    The confidences are put into 15 bins of equal width, ((m - 1)/15, m/15]. The error is the mean over images of
    |accuracy - mean confidence| of the image's bin (Guo et al. 2017, "On Calibration of Modern Neural Networks", eq.
    3).
    """
    return calibration_gap(correct(probabilities, labels), probabilities.max(axis=1).astype(np.float64))


def calibration_gap(right: np.ndarray, confidence: np.ndarray) -> float:
    """Return `calibration_error` from whether predictions are correct, (N,) bool, and confidences, (N,) float64."""
    bins = np.clip(np.ceil(confidence * CALIBRATION_BINS).astype(np.int64) - 1, 0, CALIBRATION_BINS - 1)
    gap = np.bincount(bins, weights=right - confidence, minlength=CALIBRATION_BINS)
    return float(np.abs(gap).sum() / len(right))
