"""Which images of a large pool are most like a target set."""

from dataclasses import dataclass

import numpy as np

_BLOCK = 1024
"""Images whose similarities are in memory at once."""
_DIGITS = 5
"""Decimals of a similarity that decide who comes first."""


@dataclass(frozen=True)
class Selection:
    """K images of a pool, the most similar first."""

    rows: np.ndarray
    """(K,) int64, positions in the pool, each once."""
    similarity: np.ndarray
    """(K,) float32 in [-1, 1], to the nearest target image."""
    nearest: np.ndarray
    """(K,) int64, that image's position in the target."""
    left_out: int
    """Images that would have come before the last one, but are nearly the same as another."""


def select_similar(
    pool: np.ndarray, target: np.ndarray, avoided: np.ndarray, count: int, duplicate: float
) -> Selection:
    """The images of a pool that are most like some target image, without near duplicates.

    In the order of their similarity to the nearest target image (of equal ones the first), each image is taken unless
    its similarity to one taken before, or to an avoided one, reaches `duplicate`. Similarity is the cosine of features.

    Args:
        pool: (N, D) float32 features, each of length 1.
        target: (T, D) float32, likewise; T > 0.
        avoided: (A, D) float32, likewise; A may be 0.
        count: how many to take, at the most as many as there are.
        duplicate: from which similarity two images count as the same.
    """
    similarity, nearest = _nearest_others(pool, target)
    # Where a row stands in a matrix product decides its last digits; equal images shall be equal.
    order = np.argsort(-similarity.round(_DIGITS), kind="stable")
    taken = np.empty((min(count, len(pool)), pool.shape[1]), dtype=pool.dtype)
    rows: list[int] = []
    seen = 0
    for start in range(0, len(order), _BLOCK):
        block = order[start : start + _BLOCK]
        features = pool[block]
        free = ~_near_duplicates(features, avoided, duplicate) & ~_near_duplicates(
            features, taken[: len(rows)], duplicate
        )
        alike = features @ features.T >= duplicate
        for place in np.flatnonzero(free):
            if len(rows) == count:
                break
            if free[place]:
                taken[len(rows)] = features[place]
                rows.append(int(block[place]))
                seen = start + int(place) + 1
                free &= ~alike[place]
        if len(rows) == count:
            break
    else:
        seen = len(order)
    found = np.array(rows, dtype=np.int64)
    return Selection(found, similarity[found], nearest[found], seen - len(found))


def _nearest_others(features: np.ndarray, others: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(N,) float32 similarity to the nearest of the others, and (N,) int64 which that is."""
    similarity, nearest = np.empty(len(features), dtype=np.float32), np.empty(len(features), dtype=np.int64)
    for start in range(0, len(features), _BLOCK):
        cosines = features[start : start + _BLOCK] @ others.T
        nearest[start : start + _BLOCK] = cosines.argmax(axis=1)
        similarity[start : start + _BLOCK] = cosines.max(axis=1)
    return similarity, nearest


def _near_duplicates(features: np.ndarray, others: np.ndarray, duplicate: float) -> np.ndarray:
    """(N,) bool: whose similarity to one of the others reaches `duplicate`."""
    reached = np.zeros(len(features), dtype=bool)
    for start in range(0, len(others), 4 * _BLOCK):
        reached |= (features @ others[start : start + 4 * _BLOCK].T >= duplicate).any(axis=1)
    return reached
