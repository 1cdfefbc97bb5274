"""How far models lie from their start and in which directions: lengths and angles of task vectors, streamed."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch

    State = Mapping[str, torch.Tensor]

_NUMBERS = 1 << 20
"""Numbers in memory at a time, of all models together: 8 MiB in float64."""
_STATISTICS = ("running_mean", "running_var")


def gram_matrix(states: "Sequence[State]", origin: "State") -> np.ndarray:
    """The inner products of all pairs of task vectors τ_i = w_i - origin (Ilharco et al. 2023, arXiv:2212.04089).

    One pass over the models side by side, a piece of a tensor at a time, in float64: of mapped files nothing but the
    pieces is in memory. Only what training moves counts: floating-point tensors but BatchNorm's running statistics,
    whose units are those of features and which would outweigh all else.

    Args:
        states: the M models, of one layout.
        origin: the start; where there is none, any of the models (`distances_to_rest` does not depend on which).

    Returns:
        (M, M) float64.
    """
    import torch

    total = torch.zeros(len(states), len(states), dtype=torch.float64)
    step = max(1, _NUMBERS // len(states))
    for key, tensor in origin.items():
        if not tensor.is_floating_point() or key.endswith(_STATISTICS):
            continue
        flat, columns = tensor.reshape(-1), [state[key].reshape(-1) for state in states]
        for begin in range(0, len(flat), step):
            place = slice(begin, begin + step)
            piece = torch.stack([column[place].to(torch.float64) for column in columns])
            piece.sub_(flat[place].to(torch.float64))
            total.addmm_(piece, piece.T)
    return total.numpy()


def task_vector_lengths(products: np.ndarray) -> np.ndarray:
    """(M,) lengths ‖τ_i‖ of task vectors, from their (M, M) inner products."""
    return np.sqrt(np.maximum(np.diagonal(products), 0.0))


def angles_to_rest(products: np.ndarray, members: np.ndarray) -> np.ndarray:
    """The angle of each task vector to the mean of the others'.

    Independent directions in many dimensions are at 90°; of M fine-tunes that share a length and pairwise angles of
    cosine c, each is at an angle of cosine c·√((M - 1) / (1 + (M - 2)·c)) to the mean of the others.

    Args:
        products: (M, M) inner products.
        members: (M,) bool, whose mean is taken; of a member, that of the others.

    Returns:
        (M,) float64, degrees in [0, 180]; NaN where there is no other member, or a length is zero.
    """
    found = np.full(len(products), np.nan)
    for index, share in enumerate(_shares(members)):
        if share is None:
            continue
        scale = np.sqrt(max(products[index, index], 0.0) * max(share @ products @ share, 0.0))
        if scale > 0:
            found[index] = np.degrees(np.arccos(np.clip(products[index] @ share / scale, -1.0, 1.0)))
    return found


def distances_to_rest(products: np.ndarray, members: np.ndarray) -> np.ndarray:
    """The distance of each model from the mean of the others, whatever the origin of the inner products.

    Args:
        products: (M, M) inner products.
        members: (M,) bool, whose mean is taken; of a member, that of the others.

    Returns:
        (M,) float64; NaN where there is no other member.
    """
    found = np.full(len(products), np.nan)
    for index, share in enumerate(_shares(members)):
        if share is not None:
            square = products[index, index] - 2 * products[index] @ share + share @ products @ share
            found[index] = np.sqrt(max(square, 0.0))
    return found


def _shares(members: np.ndarray) -> list[np.ndarray | None]:
    """For each model, what each of the other members has in their mean, (M,) float64; None where there is none."""
    shares: list[np.ndarray | None] = []
    for index in range(len(members)):
        others = np.asarray(members, dtype=np.float64).copy()
        others[index] = 0.0
        shares.append(others / others.sum() if others.any() else None)
    return shares
