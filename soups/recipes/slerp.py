"""Slerp: two models, averaged along the arc between them instead of the straight line."""

import math
from typing import TYPE_CHECKING

from soups.core.errors import DataError
from soups.recipes.shared.pool import Judge, OnDecision, Pool, Soup, canonical_order
from soups.recipes.shared.sweep import check_range, judge_finished
from soups.recipes.shared.tensor_chunks import iterate_chunks, join_chunks, mapped_states

if TYPE_CHECKING:
    import torch

PARALLEL_COSINE = 0.9995
"""Above this |cos ω| the arc is numerically a line."""


def slerp(pool: Pool, judge: Judge | None, *, on_decision: OnDecision | None = None, fraction: float = 0.5) -> Soup:
    """Interpolate two models spherically, tensor by tensor.

    Shoemake 1985, "Animating rotation with quaternion curves", SIGGRAPH: sin((1 - f) ω) / sin ω · a + sin(f ω) / sin ω
    · b, where ω is the angle between the tensors as flat vectors. Shoemake's a and b have unit length; weights do not,
    and are interpolated with their lengths, as is usual for models. If |cos ω| > 0.9995 (the same direction or the
    opposite one, or a tensor of one number) or a tensor is all zeros, linear interpolation replaces the arc: (1 - f) ·
    a + f · b.

    In memory at a time: the result, and in float64 a chunk of one tensor of each model.

    Args:
        pool: exactly two ingredients, in any order.
        judge: judges the finished soup; None leaves its score open.
        on_decision: called once, with the finished soup's result.
        fraction: position between the first (0) and the second (1) ingredient in canonical order, in [0, 1].

    Raises:
        UsageError: the fraction is out of range.
        DataError: not two models, or they do not fit each other or hold NaN or infinity; names model and tensor.
    """
    check_range("slerp: fraction", fraction, "[0, 1]")
    number = len(pool.ingredients)
    if number != 2:
        raise DataError(
            "slerp: the number of models",
            expected="exactly 2 models",
            found=str(number),
            next_step="name two of them with --ingredients, or use uniform, greedy, pruned or top_k",
        )
    ingredients = canonical_order(pool.ingredients)
    one, other = mapped_states(ingredients)
    soup = Soup(
        recipe="slerp",
        state={
            key: _interpolate(tensor, other[key], fraction) if tensor.is_floating_point() else tensor.clone()
            for key, tensor in one.items()
        },
        ingredients=ingredients,
        coefficients=(1 - fraction, fraction),
        options={"fraction": fraction},
        summary=f"{fraction:g} of the way from {ingredients[0].name} to {ingredients[1].name} along the arc",
    )
    return judge_finished(soup, judge, on_decision, f"fraction={fraction:g}")


def _interpolate(one: "torch.Tensor", other: "torch.Tensor", fraction: float) -> "torch.Tensor":
    """Return the tensor on the arc, in the dtype of both."""
    squares, products = [0.0, 0.0], 0.0
    for _, (a, b) in iterate_chunks([one, other]):
        products += float((a * b).sum())
        squares = [square + float(piece.square_().sum()) for square, piece in zip(squares, (a, b), strict=True)]
    lengths = math.sqrt(squares[0]) * math.sqrt(squares[1])
    cosine = products / lengths if lengths > 0 else 1.0
    shares = (1 - fraction, fraction)
    if abs(cosine) <= PARALLEL_COSINE:
        angle = math.acos(cosine)
        shares = (math.sin(shares[0] * angle) / math.sin(angle), math.sin(shares[1] * angle) / math.sin(angle))
    chunks = ((place, a.mul_(shares[0]).add_(b, alpha=shares[1])) for place, (a, b) in iterate_chunks([one, other]))
    return join_chunks(chunks, one)
