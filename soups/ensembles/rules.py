"""Voting rules: several models' probabilities on the same images become one table."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from soups.core.errors import DataError, UsageError
from soups.core.labels import LabelSpace
from soups.ensembles.joint import log_linear_pool

Rule = Callable[[np.ndarray, "np.ndarray | None", LabelSpace], np.ndarray]
"""`rule(probabilities (M, N, C), weights (M,) or None, space) -> (N, C) float64`, rows summing to one."""

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
    _check_shape(probabilities)
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
    _check_shape(probabilities)
    result = np.zeros(probabilities.shape[1:])
    # One model after the other: (M, N, C) in float64 may not fit a second time.
    for weight, table in zip(normalize_weights(weights, len(probabilities)), probabilities, strict=True):
        result += weight * table
    return result


def joint(probabilities: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """The product of experts; see `joint.log_linear_pool`.

    Args:
        probabilities: (M, N, C) floats, models of some factors lifted to all (their rows need not sum to one).
        weights: (M,) exponents from 0 up; None: all 1.

    Returns:
        (N, C) float64 probabilities.
    """
    _check_shape(probabilities)
    return log_linear_pool(probabilities, weights)


def minmax(probabilities: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """The mean of the models' logits, each image's scaled to [0, 1]: its least class gives 0, its greatest 1.

    Logits and logarithms of probabilities differ by a number for each image, so scaled they are the same.

    Args:
        probabilities: (M, N, C) floats, rows summing to one.
        weights: ignored.

    Returns:
        (N, C) float64 scores, rows summing to one. They rank the classes and are no probabilities.
    """
    _check_shape(probabilities)
    result = np.zeros(probabilities.shape[1:])
    for table in probabilities:
        logs = np.log(np.maximum(table, np.finfo(np.float64).tiny), dtype=np.float64)
        logs -= logs.min(axis=1, keepdims=True)
        highest = logs.max(axis=1, keepdims=True)
        result += np.divide(logs, highest, out=np.ones_like(logs), where=highest > 0)
    return result / result.sum(axis=1, keepdims=True)


def split_hard(probabilities: np.ndarray, space: LabelSpace) -> np.ndarray:
    """Majority vote on each factor by itself, and the class that the winners make together.

    A model's vote on a factor is the level of its most probable class, as its own answer would have it; ties go to the
    level with the highest probability summed over all models.

    Args:
        probabilities: (M, N, C) floats, rows summing to one.
        space: C classes, made of factors.

    Returns:
        (N, C) float64: products of the factors' vote shares, rows summing to one, whose argmax is the winner.

    Raises:
        UsageError: classes that are not made of factors.
    """
    _check_shape(probabilities)
    if not space.factors:
        raise UsageError("a vote split by factors", expected="classes that are made of factors")
    result = np.ones(probabilities.shape[1:])
    answers = probabilities.argmax(axis=2)
    for name in space.factor_names:
        part = space.part([name])
        owner = space.projection(part)
        marginals = np.stack([space.marginal(table, part) for table in probabilities])
        result *= _vote_shares(owner[answers], marginals)[:, owner]
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
    _check_shape(probabilities)
    return _vote_shares(probabilities.argmax(axis=2), probabilities)


def _vote_shares(answers: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Vote shares (N, C) of answers (M, N), ties leaning towards the highest sum of probabilities (M, N, C)."""
    models, images, classes = probabilities.shape
    votes = np.zeros((images, classes))
    rows = np.arange(images)
    for answer in answers:
        votes[rows, answer] += 1
    shares = votes / models
    leading = votes == votes.max(axis=1, keepdims=True)
    tied = np.flatnonzero(leading.sum(axis=1) > 1)
    # Sorted before summing, so that rounding does not depend on the models' order.
    sums = np.sort(probabilities[:, tied].astype(np.float64), axis=0).sum(axis=0)
    winners = np.where(leading[tied], sums, -np.inf).argmax(axis=1)
    shares[tied] *= 1 - TIE_BREAK
    shares[tied, winners] += TIE_BREAK
    return shares


def normalize_weights(weights: "np.ndarray | None", models: int) -> np.ndarray:
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


def _check_shape(probabilities: np.ndarray) -> None:
    if probabilities.ndim != 3 or 0 in probabilities.shape[::2]:
        raise DataError(
            "a vote of no models, or of models with different images or classes",
            expected="probabilities (models, images, classes)",
            found=str(probabilities.shape),
        )


@dataclass(frozen=True)
class VotingRule:
    """A voting rule with everything that is particular to it."""

    function: Rule
    description: str
    """One line for the list of rules."""
    flag: str = "vote"
    """The setting that selects the rule: `soft_voting`, `hard_voting`, `weighted_ensemble` or `vote`."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Settings that the flag needs for this rule, such as `normalise: minmax`."""
    takes_weights: bool = False
    """Whether members may have weights, `M=0.6`; without them weights are fitted on the validation set."""
    gives_probabilities: bool = True
    """Whether its rows are probabilities; a log-loss of vote shares means nothing."""

    def __call__(self, probabilities: np.ndarray, weights: "np.ndarray | None", space: LabelSpace) -> np.ndarray:
        """Combine the models' tables; see `Rule`."""
        return self.function(probabilities, weights, space)


RULES: dict[str, VotingRule] = {
    "soft": VotingRule(
        lambda probabilities, weights, space: soft(probabilities),
        "mean of the probabilities",
        "soft_voting",
        {"normalise": "probability"},
    ),
    "minmax": VotingRule(
        lambda probabilities, weights, space: minmax(probabilities),
        "mean of the logits, those of each image scaled to [0, 1]",
        "soft_voting",
        {"normalise": "minmax"},
        gives_probabilities=False,
    ),
    "hard": VotingRule(
        lambda probabilities, weights, space: hard(probabilities),
        "majority of the predicted classes",
        "hard_voting",
        {"split": False},
        gives_probabilities=False,
    ),
    "split": VotingRule(
        lambda probabilities, weights, space: split_hard(probabilities, space),
        "majority on each factor of the label by itself",
        "hard_voting",
        {"split": True},
        gives_probabilities=False,
    ),
    "weighted": VotingRule(
        lambda probabilities, weights, space: weighted(probabilities, weights),
        "weighted mean of the probabilities",
        "weighted_ensemble",
        takes_weights=True,
    ),
    "joint": VotingRule(
        lambda probabilities, weights, space: joint(probabilities, weights),
        "product of powers of the probabilities, for models of some factors",
        "weighted_ensemble",
        takes_weights=True,
    ),
}
