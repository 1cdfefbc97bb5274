"""Selection of the images of a large pool that are most similar to a target set, by their features."""

from dataclasses import dataclass

import numpy as np

_BLOCK = 1024
"""Images per block; bounds the size of similarity matrices."""
_DIGITS = 5
"""Decimals of a similarity that the order depends on."""


@dataclass(frozen=True)
class Selection:
    """K images of a pool, in descending order of similarity."""

    rows: np.ndarray
    """(K,) int64, distinct positions in the pool."""
    similarity: np.ndarray
    """(K,) float32 in [-1, 1], cosine similarity to the nearest target image."""
    nearest: np.ndarray
    """(K,) int64, position of the nearest target image."""
    skipped_duplicates: int
    """Images more similar than the last selected one that are near duplicates of a selected or avoided image."""


def select_similar(
    pool: np.ndarray, target: np.ndarray, avoided: np.ndarray, count: int, duplicate: float
) -> Selection:
    """Select the images of a pool that are most similar to some target image, without near duplicates.

    In descending order of cosine similarity to the nearest target image (ties in pool order), an image is selected
    unless its similarity to a selected or an avoided image is at least `duplicate`.

    Args:
        pool: (N, D) float32 features, rows of unit length.
        target: (T, D) float32 features, rows of unit length; T > 0.
        avoided: (A, D) float32 features, rows of unit length; A may be 0.
        count: maximum number of images to select.
        duplicate: similarity from which two images are duplicates.
    """
    similarity, nearest = _nearest_others(pool, target)
    # Rounded, because the last digits of a matrix product depend on the row's position: equal images must tie.
    order = np.argsort(-similarity.round(_DIGITS), kind="stable")
    taken = np.empty((min(count, len(pool)), pool.shape[1]), dtype=pool.dtype)
    rows: list[int] = []
    for start in range(0, len(order), _BLOCK):
        block = order[start : start + _BLOCK]
        features = pool[block]
        selected = taken[: len(rows)]
        free = ~(_near_duplicates(features, avoided, duplicate) | _near_duplicates(features, selected, duplicate))
        duplicates = features @ features.T >= duplicate
        for position in np.flatnonzero(free):
            if free[position] and len(rows) < count:
                taken[len(rows)] = features[position]
                rows.append(int(block[position]))
                free &= ~duplicates[position]
        if len(rows) == count:
            break
    examined = int((order == rows[-1]).argmax()) + 1 if len(rows) == count else len(order)
    chosen = np.array(rows, dtype=np.int64)
    return Selection(chosen, similarity[chosen], nearest[chosen], examined - len(chosen))


def _nearest_others(features: np.ndarray, others: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return (N,) float32 similarities to the nearest of the others, and its position, (N,) int64."""
    similarity, nearest = np.empty(len(features), dtype=np.float32), np.empty(len(features), dtype=np.int64)
    for start in range(0, len(features), _BLOCK):
        cosines = features[start : start + _BLOCK] @ others.T
        nearest[start : start + _BLOCK] = cosines.argmax(axis=1)
        similarity[start : start + _BLOCK] = cosines.max(axis=1)
    return similarity, nearest


def _near_duplicates(features: np.ndarray, others: np.ndarray, duplicate: float) -> np.ndarray:
    """Return (N,) bool: whether the similarity to any of the others is at least `duplicate`."""
    reached = np.zeros(len(features), dtype=bool)
    for start in range(0, len(others), 4 * _BLOCK):
        reached |= (features @ others[start : start + 4 * _BLOCK].T >= duplicate).any(axis=1)
    return reached
