"""Weights of a vote: as given on the command line, or fitted on the validation set."""

import logging
from collections.abc import Sequence

import numpy as np

from soups.core.errors import DataError, UsageError

TOLERANCE = 1e-6
"""How far, in nats, the fitted weights' log-loss may be from the best possible."""
_MOST_STEPS = 20_000
_TRACE = 1e-4  # A smaller weight is set to zero where that costs no more than the tolerance.

logger = logging.getLogger(__name__)


def fit_weights(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Convex weights of models that minimise the log-loss of their weighted mean.

    The loss is convex in the weights. SLSQP starts from equal weights; then steps of expectation maximisation, which
    never make it worse, go on until the duality gap, max_m g_m - 1 with g_m = mean_i p_mi / sum_k w_k p_ki, proves that
    no weights are better by more than `TOLERANCE`. Equal input gives equal output.

    Args:
        probabilities: (M, N, C) floats of M models on the validation images, rows summing to one.
        labels: (N,) int64, true classes.

    Returns:
        (M,) float64, not negative, summing to one.

    Raises:
        DataError: shapes do not fit each other, or there is no image.
    """
    if probabilities.ndim != 3 or probabilities.shape[1:2] != labels.shape or len(labels) == 0:
        raise DataError(
            "weights are fitted on validation images with labels",
            expected="probabilities (models, images, classes) and labels (images,)",
            found=f"{probabilities.shape} and {labels.shape}",
        )
    chosen = probabilities[:, np.arange(len(labels)), labels].astype(np.float64)
    chosen = np.clip(chosen, np.finfo(np.float64).eps, 1.0)  # As the log-loss itself does.
    weights = _refine_by_em(_solve_slsqp(chosen), chosen)
    without_traces = np.where(weights < _TRACE, 0.0, weights)
    without_traces /= without_traces.sum()
    return without_traces if _is_optimal(without_traces, chosen) else weights


def _gradient(weights: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Minus the derivative of the log-loss, (M,): how much of each model's probability the mixture lacks."""
    return (chosen / (weights @ chosen)).mean(axis=1)


def _solve_slsqp(chosen: np.ndarray) -> np.ndarray:
    from scipy.optimize import minimize

    models = len(chosen)
    start = np.full(models, 1 / models)
    found = minimize(
        lambda weights: -np.log(np.maximum(weights @ chosen, 1e-300)).mean(),
        start,
        jac=lambda weights: -(chosen / np.maximum(weights @ chosen, 1e-300)).mean(axis=1),
        method="SLSQP",
        bounds=[(0.0, 1.0)] * models,
        constraints={"type": "eq", "fun": lambda w: w.sum() - 1, "jac": lambda w: np.ones(models)},
        options={"maxiter": 500, "ftol": 1e-13},
    ).x
    found = np.clip(found, 0.0, None)
    # A weight of exactly zero could never grow again in the steps that follow.
    mixed = 0.999999 * found / found.sum() + 0.000001 * start if found.sum() > 0 else start
    best = min((mixed, start), key=lambda weights: -np.log(weights @ chosen).mean())
    return best


def _refine_by_em(weights: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    for _ in range(_MOST_STEPS):
        if _is_optimal(weights, chosen):
            return weights
        weights = weights * _gradient(weights, chosen)
        weights /= weights.sum()
    logger.warning("the fitted weights of the vote may be off the best by more than %g nats", TOLERANCE)
    return weights


def _is_optimal(weights: np.ndarray, chosen: np.ndarray) -> bool:
    return bool(_gradient(weights, chosen).max() - 1 <= TOLERANCE)


def parse_members(members: Sequence[str]) -> tuple[tuple[str, ...], np.ndarray | None]:
    """Names, and weights where they are given, of the members of a vote.

    Args:
        members: all `NAME=WEIGHT` or all `NAME`. A name may itself hold `=` (a path such as `lr=1e-5/model.pt`).

    Returns:
        Names, and (M,) float64 weights as they are given, or None where none is.

    Raises:
        UsageError: some have a weight and others not, a weight is no number, negative, or all are zero, a name is
            empty or appears twice.
    """
    names, weights = [], []
    for member in members:
        name, weight = _split_member(member)
        names.append(name)
        weights.append(weight)
        if names.count(name) > 1:
            raise UsageError(f"{name!r} votes twice", expected="each model once")
    given = [weight for weight in weights if weight is not None]
    if not given:
        return tuple(names), None
    if len(given) < len(names):
        without = ", ".join(name for name, weight in zip(names, weights, strict=True) if weight is None)
        raise UsageError(
            "some models of the vote have a weight and others do not",
            expected="NAME=WEIGHT for all of them or for none",
            found=f"no weight for {without}",
        )
    if sum(given) == 0:
        raise UsageError("all weights of the vote are 0", expected="at least one above 0")
    return tuple(names), np.array(given)


def _split_member(member: str) -> tuple[str, float | None]:
    name, sign, text = member.rpartition("=")
    if not sign or "/" in text or "\\" in text:
        name, text = member, "1"
        sign = ""
    try:
        weight = float(text)
    except ValueError:
        weight = float("nan")
    if not name or not 0 <= weight < float("inf"):
        raise UsageError(f"{member!r} is no member of a vote", expected="NAME or NAME=WEIGHT with a weight from 0 up")
    return name, weight if sign else None
