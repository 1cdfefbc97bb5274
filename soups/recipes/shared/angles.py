"""Lengths of task vectors and angles between them, streamed from files."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from soups.recipes.shared.pool import State

if TYPE_CHECKING:
    pass

_CHUNK_NUMBERS = 1 << 20
"""Numbers in memory at a time, of all models together: 8 MiB in float64."""
_BATCHNORM_STATISTICS = ("running_mean", "running_var")


def gram_matrix(states: Sequence[State], origin: State) -> np.ndarray:
    """Return inner products of all pairs of task vectors τ_i = w_i - origin (Ilharco et al. 2023, arXiv:2212.04089).

    Reads all models side by side in one pass, a chunk of a tensor at a time, in float64; of mapped files only the
    chunks are in memory. Only trained tensors count: floating-point tensors except BatchNorm's running statistics,
    which have the units of features and would outweigh everything else.

    Args:
        states: the M models, of one layout.
        origin: the start; without one, any of the models (`distances_to_rest` does not depend on the choice).

    Returns:
        (M, M) float64.
    """
    import torch

    total = torch.zeros(len(states), len(states), dtype=torch.float64)
    step = max(1, _CHUNK_NUMBERS // len(states))
    for key, tensor in origin.items():
        if not tensor.is_floating_point() or key.endswith(_BATCHNORM_STATISTICS):
            continue
        flat, columns = tensor.reshape(-1), [state[key].reshape(-1) for state in states]
        for begin in range(0, len(flat), step):
            place = slice(begin, begin + step)
            piece = torch.stack([column[place].to(torch.float64) for column in columns])
            piece.sub_(flat[place].to(torch.float64))
            total.addmm_(piece, piece.T)
    return total.numpy()


def task_vector_lengths(products: np.ndarray) -> np.ndarray:
    """Return the (M,) lengths ‖τ_i‖ of task vectors from their (M, M) inner products."""
    return np.sqrt(np.maximum(np.diagonal(products), 0.0))


def angles_to_rest(products: np.ndarray, members: np.ndarray) -> np.ndarray:
    """Return the angle between each task vector and the mean of the others.

    Independent directions in many dimensions have an angle of 90°. Of M fine-tunes with one length and pairwise cosine
    c, each has cosine c·√((M - 1) / (1 + (M - 2)·c)) with the mean of the others.

    Args:
        products: (M, M) inner products.
        members: (M,) bool, the models to average; a model is left out of its own mean.

    Returns:
        (M,) float64, degrees in [0, 180]; NaN if there is no other member, or a length is zero.
    """
    found = np.full(len(products), np.nan)
    for index, share in _shares_of_others(members):
        scale = np.sqrt(max(products[index, index], 0.0) * max(share @ products @ share, 0.0))
        if scale > 0:
            found[index] = np.degrees(np.arccos(np.clip(products[index] @ share / scale, -1.0, 1.0)))
    return found


def distances_to_rest(products: np.ndarray, members: np.ndarray) -> np.ndarray:
    """Return the distance between each model and the mean of the others; it does not depend on the origin.

    Args:
        products: (M, M) inner products.
        members: (M,) bool, the models to average; a model is left out of its own mean.

    Returns:
        (M,) float64; NaN if there is no other member.
    """
    found = np.full(len(products), np.nan)
    for index, share in _shares_of_others(members):
        square = products[index, index] - 2 * products[index] @ share + share @ products @ share
        found[index] = np.sqrt(max(square, 0.0))
    return found


def _shares_of_others(members: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Yield each model that has other members, with the (M,) float64 coefficients of the mean of those."""
    for index in range(len(members)):
        others = np.asarray(members, dtype=np.float64).copy()
        others[index] = 0.0
        if others.any():
            yield index, others / others.sum()
