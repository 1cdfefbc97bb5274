"""Temperature scaling: calibration of probabilities by one number that is fitted on the validation set."""

import numpy as np

from soups.core.scores import softmax
from soups.ensembles.fit import check_fit_input

LOWEST, HIGHEST = 0.01, 100.0
"""Bounds of the temperature. If all validation predictions are correct, the log-loss has no minimum above 0."""


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """Fit the temperature T that minimises the log-loss of softmax(logits / T).

    Guo et al. 2017, "On Calibration of Modern Neural Networks" (ICML), section 4.2. The log-loss is convex in 1/T, so
    its derivative with respect to 1/T, mean_i (E_softmax[z_i] - z_i,label), has one root, which Brent's method finds.
    Temperature scaling does not change predictions.

    Args:
        logits: (N, C) floats of a model, or logarithms of a vote's probabilities: a constant per image has no effect.
        labels: (N,) int64, true classes.

    Returns:
        T in [LOWEST, HIGHEST]; above 1 for an overconfident model.

    Raises:
        DataError: the shapes do not match, there are no images, or a logit is not finite.
    """
    check_fit_input("temperature", logits, labels, "logits", ("images", "classes"))
    from scipy.optimize import brentq

    table = np.asarray(logits, dtype=np.float64)
    true_class = table[np.arange(len(labels)), labels].mean()

    def slope(inverse: float) -> float:
        """Return the derivative of the log-loss with respect to 1/T."""
        return float((softmax(inverse * table) * table).sum(axis=1).mean() - true_class)

    if slope(1 / LOWEST) <= 0:
        return LOWEST
    if slope(1 / HIGHEST) >= 0:
        return HIGHEST
    return 1 / float(brentq(slope, 1 / HIGHEST, 1 / LOWEST, xtol=1e-9))


def scale_by_temperature(table: np.ndarray, temperature: float) -> np.ndarray:
    """Return probabilities at temperature T: softmax(log(table) / T).

    Args:
        table: (N, C) float64 probabilities, rows summing to one.
        temperature: T, above zero.

    Returns:
        (N, C) float64 probabilities, rows summing to one.
    """
    return softmax(to_log_probabilities(table) / temperature)


def to_log_probabilities(table: np.ndarray) -> np.ndarray:
    """Return logarithms of (N, C) probabilities, which are first raised to the smallest normal float64."""
    return np.log(np.maximum(table, np.finfo(np.float64).tiny))
