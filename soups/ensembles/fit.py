"""Weights of a weighted vote: parsed from the command line, or fitted on the validation set."""

import logging
from collections.abc import Sequence

import numpy as np

from soups.core.errors import DataError, UsageError
from soups.files.tables import is_table

TOLERANCE = 1e-6
"""Maximum difference in nats between the fitted weights' log-loss and the optimum."""
_MAX_STEPS = 20_000
_NEGLIGIBLE_WEIGHT = 1e-4  # Smaller weights are set to zero if the log-loss stays within the tolerance.

logger = logging.getLogger(__name__)


def fit_weights(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Fit convex weights of models that minimise the log-loss of the weighted mean.

    The loss is convex in the weights. SLSQP starts from equal weights. Steps of expectation maximisation, which never
    increase the loss, follow until the duality gap, max_m g_m - 1 with g_m = mean_i p_mi / sum_k w_k p_ki, is at most
    `TOLERANCE`. The result is deterministic.

    Args:
        probabilities: (M, N, C) floats of M models on the validation images, rows summing to one.
        labels: (N,) int64, true classes.

    Returns:
        (M,) float64, not negative, summing to one.

    Raises:
        DataError: the shapes do not match, or there are no images.
    """
    check_fit_input("weights of a vote", probabilities, labels, "probabilities", ("models", "images", "classes"))
    true_class = probabilities[:, np.arange(len(labels)), labels].astype(np.float64)
    true_class = np.clip(true_class, np.finfo(np.float64).eps, 1.0)  # As `log_loss` clips.
    weights = _refine_by_em(_solve_slsqp(true_class), true_class)
    sparse = np.where(weights < _NEGLIGIBLE_WEIGHT, 0.0, weights)
    sparse /= sparse.sum()
    return sparse if _is_optimal(sparse, true_class) else weights


def check_fit_input(what: str, tables: np.ndarray, labels: np.ndarray, kind: str, axes: tuple[str, ...]) -> None:
    """Raise unless tables have these axes, with classes last, and there is a label for each image.

    Raises:
        DataError: the shapes do not match, or there are no images; `what` is fitted on tables of this `kind`.
    """
    if tables.ndim != len(axes) or tables.shape[-2:-1] != labels.shape or len(labels) == 0:
        raise DataError(
            f"{what}: fitting needs validation images with labels",
            expected=f"{kind} ({', '.join(axes)}) and labels (images,)",
            found=f"{tables.shape} and {labels.shape}",
        )


def _gradient(weights: np.ndarray, true_class: np.ndarray) -> np.ndarray:
    """Return the negative gradient of the log-loss, (M,), from probabilities of the true classes (M, N)."""
    return (true_class / (weights @ true_class)).mean(axis=1)


def _solve_slsqp(true_class: np.ndarray) -> np.ndarray:
    """Return weights (M,) from SLSQP with all weights above zero; equal weights if those are better."""
    from scipy.optimize import minimize

    models = len(true_class)
    start = np.full(models, 1 / models)
    found = minimize(
        lambda weights: -np.log(np.maximum(weights @ true_class, 1e-300)).mean(),
        start,
        jac=lambda weights: -(true_class / np.maximum(weights @ true_class, 1e-300)).mean(axis=1),
        method="SLSQP",
        bounds=[(0.0, 1.0)] * models,
        constraints={"type": "eq", "fun": lambda w: w.sum() - 1, "jac": lambda w: np.ones(models)},
        options={"maxiter": 500, "ftol": 1e-13},
    ).x
    found = np.clip(found, 0.0, None)
    # Expectation maximisation multiplies weights, so that a weight of zero would remain zero.
    mixed = 0.999999 * found / found.sum() + 0.000001 * start if found.sum() > 0 else start
    return min((mixed, start), key=lambda weights: -np.log(weights @ true_class).mean())


def _refine_by_em(weights: np.ndarray, true_class: np.ndarray) -> np.ndarray:
    """Return weights (M,) after expectation maximisation to the optimum; warns if 20,000 steps are too few."""
    for _ in range(_MAX_STEPS):
        if _is_optimal(weights, true_class):
            return weights
        weights = weights * _gradient(weights, true_class)
        weights /= weights.sum()
    logger.warning("the log-loss of the fitted weights may exceed the optimum by more than %g nats", TOLERANCE)
    return weights


def _is_optimal(weights: np.ndarray, true_class: np.ndarray) -> bool:
    return bool(_gradient(weights, true_class).max() - 1 <= TOLERANCE)


def parse_members(members: Sequence[str]) -> tuple[tuple[str, ...], np.ndarray | None]:
    """Parse the members of a vote.

    Args:
        members: all `NAME=WEIGHT` or all `NAME`. A name may contain `=` (a path such as `lr=1e-5/model.pt`).

    Returns:
        Names, and weights (M,) float64, not normalised, or None if no member has a weight.

    Raises:
        UsageError: only some members have a weight, a weight is not a number from 0 up, all are zero, or a name is
            empty or repeated.
    """
    pairs = [split_member(member) for member in members]
    names = tuple(name for name, _ in pairs)
    for name in names:
        if names.count(name) > 1:
            raise UsageError(f"{name!r} is a member of the vote twice", expected="each model once")
    weights = [weight for _, weight in pairs if weight is not None]
    if not weights:
        return names, None
    if len(weights) < len(names):
        raise UsageError(
            "some models of the vote have a weight and others do not",
            expected="NAME=WEIGHT for all of them or for none",
            found=f"no weight for {', '.join(name for name, weight in pairs if weight is None)}",
        )
    if sum(weights) == 0:
        raise UsageError("all weights of the vote are 0", expected="at least one above 0")
    return names, np.array(weights)


def split_member(member: str) -> tuple[str, float | None]:
    """Return name and weight of a member; the weight is None if there is none."""
    name, sign, text = member.rpartition("=")
    if not sign or "/" in text or "\\" in text or is_table(text):
        name, sign, text = member, "", "1"
    try:
        weight = float(text)
    except ValueError:
        weight = float("nan")
    if not name or not 0 <= weight < float("inf"):
        raise UsageError(f"{member!r}: not a member of a vote", expected="NAME, or NAME=WEIGHT with a weight from 0 up")
    return name, weight if sign else None
