"""On which images models disagree: how their votes are divided, and how far apart their probabilities are."""

import numpy as np

from soups.core.labels import LabelSpace


def vote_entropy(codes: np.ndarray, classes: int) -> np.ndarray:
    """The entropy of the votes on each image, (N,) float64 in nats: 0 where all agree, log(M) where all differ.

    Dagan and Engelson 1995, "Committee-based sampling for training probabilistic classifiers" (ICML).

    Args:
        codes: (M, N) int64, answers in [0, C).
        classes: C.
    """
    models, images = codes.shape
    cells = (np.arange(images) * classes + codes).ravel()
    shares = np.bincount(cells, minlength=images * classes).reshape(images, classes) / models
    return np.maximum(0.0, -(shares * np.log(np.where(shares > 0, shares, 1.0))).sum(axis=1))


def jensen_shannon_divergence(probabilities: np.ndarray) -> np.ndarray:
    """How far the models' probabilities are apart on each image, (N,) float64 in nats: their Jensen-Shannon divergence.

    The entropy of the mean minus the mean entropy (Lin 1991, IEEE Transactions on Information Theory 37). It tells
    images apart whose votes are divided alike.

    Args:
        probabilities: (M, N, C) floats, rows summing to one.
    """
    mean = probabilities.mean(axis=0, dtype=np.float64)
    return np.maximum(0.0, _entropy(mean) - np.mean([_entropy(table) for table in probabilities], axis=0))


def _entropy(table: np.ndarray) -> np.ndarray:
    return -(table * np.log(np.where(table > 0, table, 1.0))).sum(axis=-1)


def disagreement_by_factor(codes: np.ndarray, space: LabelSpace) -> dict[str, np.ndarray]:
    """The entropy of the votes on the class, and on each factor where classes are made of several.

    Args:
        codes: (M, N) int64, answers in [0, C).
        space: C classes.

    Returns:
        `class`, then the factors: (N,) float64 each.
    """
    found = {"class": vote_entropy(codes, len(space))}
    if len(space.factors) > 1:
        for name in space.factor_names:
            part = space.part([name])
            found[name] = vote_entropy(space.projection(part)[codes], len(part))
    return found


def format_votes(codes: np.ndarray, names: tuple[str, ...]) -> str:
    """One image's votes in words, the most frequent first: `old 3, middle 2`; equal ones by their index."""
    counts = np.bincount(codes, minlength=len(names))
    order = np.argsort(-counts, kind="stable")
    return ", ".join(f"{names[index]} {counts[index]}" for index in order if counts[index])
