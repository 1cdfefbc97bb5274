"""Voting rules, which combine several models' probabilities on the same images, and their registry `RULES`."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from soups.core.errors import DataError, UsageError
from soups.core.labels import LabelSpace
from soups.ensembles.joint import check_weights, log_linear_pool

Rule = Callable[[np.ndarray, "np.ndarray | None", LabelSpace], np.ndarray]
"""`rule(probabilities (M, N, C), weights (M,) or None, space) -> (N, C) float64`, rows summing to one."""

TIE_BREAK = 1e-9
"""Vote share that is added to the winner of a tied row, so that argmax finds it."""


def soft(probabilities: np.ndarray, weights: np.ndarray | None, space: LabelSpace) -> np.ndarray:
    """Return the mean of the models' probabilities.

    Args:
        probabilities: (M, N, C) floats, rows summing to one.
        weights: ignored.
        space: ignored.

    Returns:
        (N, C) float64 probabilities.
    """
    return probabilities.mean(axis=0, dtype=np.float64)


def weighted(probabilities: np.ndarray, weights: np.ndarray | None, space: LabelSpace) -> np.ndarray:
    """Return the weighted mean of the models' probabilities.

    Args:
        probabilities: (M, N, C) floats, rows summing to one.
        weights: (M,), not negative, not all zero; normalised to sum to one. None: all equal.
        space: ignored.

    Returns:
        (N, C) float64 probabilities.

    Raises:
        UsageError: the weights are invalid, see `normalize_weights`.
    """
    result = np.zeros(probabilities.shape[1:])
    # One model at a time, because a second (M, N, C) array in float64 may not fit into memory.
    for weight, table in zip(normalize_weights(weights, len(probabilities)), probabilities, strict=True):
        result += weight * table
    return result


def joint(probabilities: np.ndarray, weights: np.ndarray | None, space: LabelSpace) -> np.ndarray:
    """Return the product of experts, see `joint.log_linear_pool`.

    Args:
        probabilities: (M, N, C) floats from `joint.lift_to_joint`; rows need not sum to one.
        weights: (M,) exponents from 0 up; None: all 1.
        space: ignored.

    Returns:
        (N, C) float64 probabilities.
    """
    return log_linear_pool(probabilities, weights)


def minmax(probabilities: np.ndarray, weights: np.ndarray | None, space: LabelSpace) -> np.ndarray:
    """Return the mean of the models' logits, scaled linearly per image from [minimum, maximum] to [0, 1].

    Logits are computed as logarithms of probabilities: both differ by a constant per image, which scaling removes.

    Args:
        probabilities: (M, N, C) floats, rows summing to one.
        weights: ignored.
        space: ignored.

    Returns:
        (N, C) float64 scores, rows summing to one. They rank the classes and are not probabilities.
    """
    result = np.zeros(probabilities.shape[1:])
    for table in probabilities:
        logs = np.log(np.maximum(table, np.finfo(np.float64).tiny), dtype=np.float64)
        logs -= logs.min(axis=1, keepdims=True)
        highest = logs.max(axis=1, keepdims=True)
        result += np.divide(logs, highest, out=np.ones_like(logs), where=highest > 0)
    return result / result.sum(axis=1, keepdims=True)


def split_hard(probabilities: np.ndarray, weights: np.ndarray | None, space: LabelSpace) -> np.ndarray:
    """Return the majority vote on each factor separately; the winning levels form the class.

    A model votes for the levels of its most probable class. Ties go to the level with the highest sum of probabilities
    over all models.

    Args:
        probabilities: (M, N, C) floats, rows summing to one.
        weights: ignored.
        space: C classes, made of factors.

    Returns:
        (N, C) float64: products of the factors' vote shares, rows summing to one, whose argmax is the winner.

    Raises:
        UsageError: the classes have no factors.
    """
    if not space.factors:
        raise UsageError("a vote split by factors", expected="classes that are made of factors")
    result = np.ones(probabilities.shape[1:])
    answers = probabilities.argmax(axis=2)
    for name in space.factor_names:
        part = space.part([name])
        level_of_class = space.projection(part)
        marginals = np.stack([space.marginal(table, part) for table in probabilities])
        result *= _vote_shares(level_of_class[answers], marginals)[:, level_of_class]
    return result


def hard(probabilities: np.ndarray, weights: np.ndarray | None, space: LabelSpace) -> np.ndarray:
    """Return the majority vote: each model votes for its most probable class, ties to the lowest index.

    If several classes have the most votes, the one with the highest sum of probabilities over all models wins, then the
    lowest index. The result does not depend on the order of the models.

    Args:
        probabilities: (M, N, C) floats, rows summing to one.
        weights: ignored; every model has one vote.
        space: ignored.

    Returns:
        (N, C) float64 vote shares, rows summing to one, whose argmax is the winner: in a tied row the winner's share is
        increased by `TIE_BREAK`. Shares are not probabilities, so their log-loss is meaningless.
    """
    return _vote_shares(probabilities.argmax(axis=2), probabilities)


def _vote_shares(answers: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Return vote shares (N, C) of answers (M, N); ties go to the highest sum of probabilities (M, N, C)."""
    votes = count_votes(answers, probabilities.shape[2])
    shares = votes / len(answers)
    leading = votes == votes.max(axis=1, keepdims=True)
    tied = np.flatnonzero(leading.sum(axis=1) > 1)
    # Sorted before the sum, so that rounding does not depend on the order of the models.
    sums = np.sort(probabilities[:, tied].astype(np.float64), axis=0).sum(axis=0)
    winners = np.where(leading[tied], sums, -np.inf).argmax(axis=1)
    shares[tied] *= 1 - TIE_BREAK
    shares[tied, winners] += TIE_BREAK
    return shares


def count_votes(answers: np.ndarray, classes: int, weights: np.ndarray | None = None) -> np.ndarray:
    """Return how many models answer each class on each image, (N, C) int64.

    Args:
        answers: (M, N) int64, classes in [0, C).
        classes: C.
        weights: (M, N) float64: return their sums instead, (N, C) float64.
    """
    images = answers.shape[1]
    cells = (np.arange(images) * classes + answers).ravel()
    counts = np.bincount(cells, None if weights is None else weights.ravel(), minlength=images * classes)
    return counts.reshape(images, classes)


def normalize_weights(weights: "np.ndarray | None", models: int) -> np.ndarray:
    """Return weights (M,) float64 that sum to one; None becomes equal weights.

    Raises:
        UsageError: the number of weights is not M, a weight is negative or not finite, or all are zero.
    """
    if weights is None:
        return np.full(models, 1 / models)
    weights = check_weights(weights, models)
    if weights.sum() == 0:
        raise UsageError("weights of a vote", expected="numbers from 0 up, not all 0", found=str(weights.tolist()))
    return weights / weights.sum()


@dataclass(frozen=True)
class VotingRule:
    """A registered voting rule: its function, the flag that selects it and its properties."""

    function: Rule
    description: str
    """One line for the list of rules."""
    flag: str = "vote"
    """The setting that selects the rule: `soft_voting`, `hard_voting`, `weighted_ensemble` or `vote`."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Values of other settings that select this rule together with `flag`, such as `normalise: minmax`."""
    takes_weights: bool = False
    """Whether members may have weights, `M=0.6`. Without them, weights are fitted on the validation set."""
    gives_probabilities: bool = True
    """Whether the result is probabilities. The log-loss of vote shares is meaningless."""

    def __call__(self, probabilities: np.ndarray, weights: "np.ndarray | None", space: LabelSpace) -> np.ndarray:
        """Combine the models' probabilities, see `Rule`.

        Raises:
            DataError: the shape is not (M, N, C) with M, C > 0.
        """
        if probabilities.ndim != 3 or 0 in probabilities.shape[::2]:
            raise DataError(
                "a vote without models, or of models with different images or classes",
                expected="probabilities (models, images, classes)",
                found=str(probabilities.shape),
            )
        return self.function(probabilities, weights, space)


RULES: dict[str, VotingRule] = {
    "soft": VotingRule(soft, "mean of the probabilities", "soft_voting", {"normalise": "probability"}),
    "minmax": VotingRule(
        minmax,
        "mean of the logits after scaling to [0, 1] per image",
        "soft_voting",
        {"normalise": "minmax"},
        gives_probabilities=False,
    ),
    "hard": VotingRule(
        hard, "majority of the predicted classes", "hard_voting", {"split": False}, gives_probabilities=False
    ),
    "split": VotingRule(
        split_hard,
        "majority on each factor of the label separately",
        "hard_voting",
        {"split": True},
        gives_probabilities=False,
    ),
    "weighted": VotingRule(weighted, "weighted mean of the probabilities", "weighted_ensemble", takes_weights=True),
    "joint": VotingRule(
        joint,
        "product of powers of the probabilities, for models of some factors",
        "weighted_ensemble",
        takes_weights=True,
    ),
}
