"""Models of some factors joined to one answer about all: a product of experts, each lifted to the joint classes."""

import numpy as np

from soups.core.errors import DataError, UsageError
from soups.core.labels import LabelSpace

MIN_PROBABILITY = 1e-12
"""A probability below counts as this: no expert alone can rule a class out."""
MAX_EXPONENT = 2.0

_TOLERANCE = 1e-10


def lift_to_joint(probabilities: np.ndarray, joint: LabelSpace, part: LabelSpace) -> np.ndarray:
    """What a model of some factors says of each joint class: the probability of the class's levels of these factors.

    Args:
        probabilities: (N, C of part) floats.
        joint: C classes.
        part: the model's classes, whose factors are some of the joint ones, or all.

    Returns:
        (N, C) floats: likelihoods, whose rows do not sum to one unless `part` has all factors.

    Raises:
        DataError: the factors of `part` are not those of `joint`.
    """
    return probabilities[:, joint.projection(part)]


def log_linear_pool(likelihoods: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """The log-linear pool of experts: each class's score is prod_m max(p_m, 1e-12)^w_m, divided by the sum.

    Hinton 2002, "Training products of experts by minimizing contrastive divergence" (Neural Computation 14), equation
    1, with exponents (Genest and Zidek 1986). Unlike the mean, it does not need every expert to know every factor.

    Args:
        likelihoods: (M, N, C) floats, as `lift_to_joint` gives them.
        weights: (M,) from 0 up; None: all 1.

    Returns:
        (N, C) float64 probabilities, rows summing to one.

    Raises:
        UsageError: the weights do not fit.
    """
    weights = np.ones(len(likelihoods)) if weights is None else np.asarray(weights, dtype=np.float64)
    if weights.shape != (len(likelihoods),):
        expected = f"{len(likelihoods)} weights"
        raise UsageError("weights do not fit the models", expected=expected, found=str(weights.size))
    if not (np.isfinite(weights).all() and (weights >= 0).all()):
        raise UsageError("weights of an ensemble", expected="numbers from 0 up", found=str(weights.tolist()))
    scores = np.zeros(likelihoods.shape[1:])
    for weight, table in zip(weights, likelihoods, strict=True):
        scores += weight * np.log(np.maximum(table, MIN_PROBABILITY))
    return _softmax(scores)


def fit_exponents(likelihoods: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The exponents of `log_linear_pool`, each in [0, 2], that minimise the log-loss.

    The log-loss is convex in the exponents (a log-sum-exp of linear functions), so the minimum found from 1 is the
    least; L-BFGS-B keeps the bounds. Equal input gives equal output.

    Args:
        likelihoods: (M, N, C) floats of M experts on the validation images.
        labels: (N,) int64, true classes.

    Returns:
        (M,) float64.

    Raises:
        DataError: shapes do not fit each other, or there is no image.
    """
    if likelihoods.ndim != 3 or likelihoods.shape[1:2] != labels.shape or len(labels) == 0:
        raise DataError(
            "exponents are fitted on validation images with labels",
            expected="likelihoods (models, images, classes) and labels (images,)",
            found=f"{likelihoods.shape} and {labels.shape}",
        )
    from scipy.optimize import minimize

    logs = np.log(np.maximum(likelihoods, MIN_PROBABILITY), dtype=np.float64)
    rows = np.arange(len(labels))
    chosen = logs[:, rows, labels].mean(axis=1)

    def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
        scores = np.tensordot(weights, logs, axes=1)
        highest = scores.max(axis=1)
        shares = np.exp(scores - highest[:, None])
        totals = shares.sum(axis=1)
        shares /= totals[:, None]
        expected = np.einsum("mnc,nc->m", logs, shares) / len(labels)
        return float((np.log(totals) + highest).mean() - weights @ chosen), expected - chosen

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
    """As the mask competition's code joined them: logit × (1 + probability that the factor model gives its level).

    It strengthens logits above zero and weakens nothing: a negative logit gets lower the likelier its level is.

    Args:
        logits: (N, C) floats of the joint model.
        likelihoods: (M, N, C) floats of factor models, lifted; each multiplies once.

    Returns:
        (N, C) float64 probabilities, the softmax of the products.
    """
    scores = np.asarray(logits, dtype=np.float64)
    for table in likelihoods:
        scores = scores * (1 + table)
    return _softmax(scores)


def _softmax(scores: np.ndarray) -> np.ndarray:
    shares = np.exp(scores - scores.max(axis=1, keepdims=True))
    return shares / shares.sum(axis=1, keepdims=True)
