"""Voting rules: several models' probabilities on the same images become one table."""

from collections.abc import Callable

import numpy as np

from soups.errors import DataError, UsageError

Rule = Callable[[np.ndarray, "np.ndarray | None"], np.ndarray]
"""`rule(probabilities (M, N, C), weights (M,) or None) -> (N, C) float64`, rows summing to one."""

TIE_BREAK = 1e-9
"""Vote share by which a tied row leans towards its winner."""


def soft(probabilities: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """The mean of the models' probabilities; `weights` are not looked at.

    Args:
        probabilities: (M, N, C) floats, rows summing to one.
        weights: ignored.

    Returns:
        (N, C) float64 probabilities.
    """
    _check(probabilities)
    return probabilities.mean(axis=0, dtype=np.float64)


def weighted(probabilities: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """The weighted mean of the models' probabilities.

    Args:
        probabilities: (M, N, C) floats, rows summing to one.
        weights: (M,), not negative, not all zero; divided by their sum. None: all equal.

    Returns:
        (N, C) float64 probabilities.

    Raises:
        UsageError: the weights do not fit.
    """
    _check(probabilities)
    result = np.zeros(probabilities.shape[1:])
    # One model after the other: (M, N, C) in float64 may not fit a second time.
    for weight, table in zip(normalised(weights, len(probabilities)), probabilities, strict=True):
        result += weight * table
    return result


def hard(probabilities: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """Majority vote: each model gives its most probable class (the lowest index where several tie) one vote.

    Where several classes have most votes, the one with the highest probability summed over all models wins, then the
    lowest index; the order of the models never matters.

    Args:
        probabilities: (M, N, C) floats, rows summing to one.
        weights: ignored; every model has one vote.

    Returns:
        (N, C) float64 vote shares, rows summing to one, whose argmax is the winner: a tied row leans towards it by
        `TIE_BREAK`. Shares are not probabilities, so a log-loss of them means nothing.
    """
    _check(probabilities)
    models, images, classes = probabilities.shape
    votes = np.zeros((images, classes))
    rows = np.arange(images)
    for table in probabilities:
        votes[rows, table.argmax(axis=1)] += 1
    shares = votes / models
    leading = votes == votes.max(axis=1, keepdims=True)
    tied = np.flatnonzero(leading.sum(axis=1) > 1)
    # Sorted before summing, so that rounding does not depend on the models' order.
    sums = np.sort(probabilities[:, tied].astype(np.float64), axis=0).sum(axis=0)
    winners = np.where(leading[tied], sums, -np.inf).argmax(axis=1)
    shares[tied] *= 1 - TIE_BREAK
    shares[tied, winners] += TIE_BREAK
    return shares


def normalised(weights: "np.ndarray | None", models: int) -> np.ndarray:
    """Weights (M,) float64 that sum to one; None: all equal.

    Raises:
        UsageError: a wrong number of weights, a negative or infinite one, or all zero.
    """
    if weights is None:
        return np.full(models, 1 / models)
    weights = np.asarray(weights, dtype=np.float64)
    if weights.shape != (models,):
        raise UsageError("weights do not fit the models", expected=f"{models} weights", found=str(weights.size))
    if not (np.isfinite(weights).all() and (weights >= 0).all() and weights.sum() > 0):
        raise UsageError("weights of a vote", expected="numbers from 0 up, not all 0", found=str(weights.tolist()))
    return weights / weights.sum()


def _check(probabilities: np.ndarray) -> None:
    if probabilities.ndim != 3 or 0 in probabilities.shape[::2]:
        raise DataError(
            "a vote of no models, or of models with different images or classes",
            expected="probabilities (models, images, classes)",
            found=str(probabilities.shape),
        )


RULES: dict[str, Rule] = {"soft": soft, "hard": hard, "weighted": weighted}
