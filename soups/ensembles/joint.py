"""Products of experts: models of some factors combined into probabilities of the joint classes."""

import numpy as np

from soups.core.errors import UsageError
from soups.core.labels import LabelSpace
from soups.core.scores import softmax
from soups.ensembles.fit import check_fit_input

MIN_PROBABILITY = 1e-12
"""Lower bound of probabilities, so that no expert alone can exclude a class."""
MAX_EXPONENT = 2.0
"""Upper bound of fitted exponents."""

_TOLERANCE = 1e-10


def lift_to_joint(probabilities: np.ndarray, joint: LabelSpace, part: LabelSpace) -> np.ndarray:
    """Return for each joint class the probability that a model of some factors assigns to the class's levels.

    Args:
        probabilities: (N, C of part) floats.
        joint: C classes.
        part: the model's classes; its factors are some or all of the joint ones.

    Returns:
        (N, C) floats, likelihoods; rows sum to one only if `part` has all factors.

    Raises:
        DataError: the factors of `part` are not those of `joint`.
    """
    return probabilities[:, joint.projection(part)]


def log_linear_pool(likelihoods: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """Return the log-linear pool of experts: prod_m max(p_m, 1e-12)^w_m for each class, normalised over the classes.

    Hinton 2002, "Training products of experts by minimizing contrastive divergence" (Neural Computation 14), equation
    1, with exponents (Genest and Zidek 1986). Unlike for the mean, an expert may know only some of the factors.

    Args:
        likelihoods: (M, N, C) floats from `lift_to_joint`.
        weights: (M,) exponents from 0 up; None: all 1.

    Returns:
        (N, C) float64 probabilities, rows summing to one.

    Raises:
        UsageError: the number of weights is not M, or a weight is negative or not finite.
    """
    weights = np.ones(len(likelihoods)) if weights is None else check_weights(weights, len(likelihoods))
    scores = np.zeros(likelihoods.shape[1:])
    for weight, table in zip(weights, likelihoods, strict=True):
        scores += weight * np.log(np.maximum(table, MIN_PROBABILITY))
    return softmax(scores)


def check_weights(weights: np.ndarray, models: int) -> np.ndarray:
    """Return weights (M,) as float64.

    Raises:
        UsageError: the number of weights is not M, or a weight is negative or not finite.
    """
    weights = np.asarray(weights, dtype=np.float64)
    if weights.shape != (models,):
        raise UsageError("weights do not fit the models", expected=f"{models} weights", found=str(weights.size))
    if not (np.isfinite(weights).all() and (weights >= 0).all()):
        raise UsageError("weights of a vote", expected="numbers from 0 up", found=str(weights.tolist()))
    return weights


def fit_exponents(likelihoods: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Fit exponents of `log_linear_pool`, each in [0, 2], that minimise the log-loss.

    The log-loss is convex in the exponents (a log-sum-exp of linear functions), so L-BFGS-B, which starts from 1 and
    respects the bounds, finds the global minimum. The result is deterministic.

    Args:
        likelihoods: (M, N, C) floats of M experts on the validation images.
        labels: (N,) int64, true classes.

    Returns:
        (M,) float64.

    Raises:
        DataError: the shapes do not match, or there are no images.
    """
    axes = ("models", "images", "classes")
    check_fit_input("exponents of a joint ensemble", likelihoods, labels, "likelihoods", axes)
    from scipy.optimize import minimize

    logs = np.log(np.maximum(likelihoods, MIN_PROBABILITY), dtype=np.float64)
    rows = np.arange(len(labels))
    true_class = logs[:, rows, labels].mean(axis=1)

    def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
        scores = np.tensordot(weights, logs, axes=1)
        highest = scores.max(axis=1)
        shares = np.exp(scores - highest[:, None])
        totals = shares.sum(axis=1)
        shares /= totals[:, None]
        expected = np.einsum("mnc,nc->m", logs, shares) / len(labels)
        return float((np.log(totals) + highest).mean() - weights @ true_class), expected - true_class

    found = minimize(
        loss,
        np.ones(len(likelihoods)),
        jac=True,
        method="L-BFGS-B",
        bounds=[(0.0, MAX_EXPONENT)] * len(likelihoods),
        options={"maxiter": 1000, "ftol": _TOLERANCE, "gtol": 1e-8},
    )
    return np.clip(found.x, 0.0, MAX_EXPONENT)


def original_formula(logits: np.ndarray, likelihoods: np.ndarray) -> np.ndarray:
    """Combine a joint model with factor models as the mask competition did: logit × (1 + probability of the level).

    A negative logit decreases with the probability of its level, so the formula is not a probabilistic combination.

    Args:
        logits: (N, C) floats of the joint model.
        likelihoods: (M, N, C) floats of factor models from `lift_to_joint`; each multiplies once.

    Returns:
        (N, C) float64 probabilities, the softmax of the products.
    """
    scores = np.asarray(logits, dtype=np.float64)
    for table in likelihoods:
        scores = scores * (1 + table)
    return softmax(scores)
