"""Disagreement of models per image: vote entropy and Jensen-Shannon divergence."""

import numpy as np

from soups.core.labels import LabelSpace
from soups.ensembles.rules import count_votes


def vote_entropy(codes: np.ndarray, classes: int) -> np.ndarray:
    """Return the entropy of the votes on each image.

    Dagan and Engelson 1995, "Committee-based sampling for training probabilistic classifiers" (ICML).

    Args:
        codes: (M, N) int64, predicted classes in [0, C).
        classes: C.

    Returns:
        (N,) float64 in nats: 0 if all models agree, log(M) if all differ.
    """
    return np.maximum(0.0, _entropy(count_votes(codes, classes) / len(codes)))


def jensen_shannon_divergence(probabilities: np.ndarray) -> np.ndarray:
    """Return the Jensen-Shannon divergence of the models' probabilities on each image.

    The entropy of the mean minus the mean entropy (Lin 1991, IEEE Transactions on Information Theory 37). It ranks
    images with equal vote entropy.

    Args:
        probabilities: (M, N, C) floats, rows summing to one.

    Returns:
        (N,) float64 in nats.
    """
    mean = probabilities.mean(axis=0, dtype=np.float64)
    return np.maximum(0.0, _entropy(mean) - np.mean([_entropy(table) for table in probabilities], axis=0))


def _entropy(table: np.ndarray) -> np.ndarray:
    return -(table * np.log(np.where(table > 0, table, 1.0))).sum(axis=-1)


def disagreement_by_factor(codes: np.ndarray, space: LabelSpace) -> dict[str, np.ndarray]:
    """Return the vote entropy of the class, and of each factor if classes are made of several.

    Args:
        codes: (M, N) int64, predicted classes in [0, C).
        space: C classes.

    Returns:
        Keys `class`, then the factors; values (N,) float64 in nats.
    """
    entropies = {"class": vote_entropy(codes, len(space))}
    if len(space.factors) > 1:
        for name in space.factor_names:
            part = space.part([name])
            entropies[name] = vote_entropy(space.projection(part)[codes], len(part))
    return entropies


def format_votes(codes: np.ndarray, names: tuple[str, ...]) -> str:
    """Return one image's votes, (M,) int64, as text: `old 3, middle 2`, most frequent first, ties by class index."""
    counts = np.bincount(codes, minlength=len(names))
    order = np.argsort(-counts, kind="stable")
    return ", ".join(f"{names[index]} {counts[index]}" for index in order if counts[index])
