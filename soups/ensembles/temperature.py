"""Temperature scaling: one number, fitted on the validation set, that makes probabilities as sure as they should be."""

import numpy as np

from soups.core.errors import DataError
from soups.core.scores import softmax

LOWEST, HIGHEST = 0.01, 100.0
"""Bounds of the temperature: where all validation images are right, no temperature would be low enough."""


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """The temperature T that minimises the log-loss of softmax(logits / T).

    Guo et al. 2017, "On Calibration of Modern Neural Networks" (ICML), section 4.2. The log-loss is convex in 1/T, so
    its derivative there, mean_i (E_softmax[z_i] - z_i,label), has one root, which Brent's method finds. Predictions do
    not change by it.

    Args:
        logits: (N, C) floats of a model, or the logarithm of a vote's probabilities (equal up to a number for each
            image, which does not matter).
        labels: (N,) int64, true classes.

    Returns:
        A number in [LOWEST, HIGHEST]; above 1 for a model that is too sure of itself.

    Raises:
        DataError: shapes do not fit each other, there is no image, or a logit is not finite.
    """
    if logits.ndim != 2 or labels.shape != logits.shape[:1] or len(labels) == 0:
        raise DataError(
            "a temperature is fitted on validation images with labels",
            expected="logits (images, classes) and labels (images,)",
            found=f"{logits.shape} and {labels.shape}",
        )
    from scipy.optimize import brentq

    table = np.asarray(logits, dtype=np.float64)
    chosen = table[np.arange(len(labels)), labels].mean()

    def slope(inverse: float) -> float:
        """The derivative of the log-loss with respect to 1/T."""
        return float((softmax(inverse * table) * table).sum(axis=1).mean() - chosen)

    if slope(1 / LOWEST) <= 0:
        return LOWEST
    if slope(1 / HIGHEST) >= 0:
        return HIGHEST
    return 1 / float(brentq(slope, 1 / HIGHEST, 1 / LOWEST, xtol=1e-9))


def scale_by_temperature(table: np.ndarray, temperature: float) -> np.ndarray:
    """Probabilities at another temperature: softmax(log(table) / T).

    Args:
        table: (N, C) float64 probabilities, rows summing to one.
        temperature: T, above zero.

    Returns:
        (N, C) float64 probabilities, rows summing to one.
    """
    return softmax(to_log_probabilities(table) / temperature)


def to_log_probabilities(table: np.ndarray) -> np.ndarray:
    """The logarithm of (N, C) probabilities; a zero counts as the smallest number there is."""
    return np.log(np.maximum(table, np.finfo(np.float64).tiny))
