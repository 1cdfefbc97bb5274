"""Models side by side: all at hand at once without the memory of all, and their tensors a piece at a time."""

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from soups.files.atomic import explain_write_errors
from soups.recipes.shared.pool import Ingredient
from soups.weights.safetensors_header import header_bytes, layout_of, tensor_contents

if TYPE_CHECKING:
    import torch

    from soups.recipes.shared.pool import State

_PIECE = 1 << 16
"""Numbers taken at a time: 0.5 MiB in float64, of each model."""


def mapped_view(ingredient: Ingredient) -> "State":
    """Its weights as a view of a file, so that those of many models take no memory.

    Where loading gives no such view (an old pickle), they are copied to the system's temporary folder and mapped from
    there; the copy is gone with the last use of it.

    Raises:
        EnvironmentFailure: there is no room for the copy.
    """
    state = ingredient.load()
    if ingredient.mapped:
        return state
    from safetensors.torch import load_file

    # Unlinking a mapped file is fine but for Windows, which keeps it until the system's own cleaning.
    with tempfile.TemporaryDirectory(prefix="soups-", ignore_cleanup_errors=True) as folder:
        path = Path(folder) / "weights.safetensors"
        with explain_write_errors(path), path.open("wb") as stream:
            stream.write(header_bytes(layout_of(state), {}))
            for content, _ in tensor_contents(state):
                stream.write(content)
        del state
        return load_file(path)


def iterate_chunks(tensors: "Sequence[torch.Tensor]") -> "Iterator[tuple[slice, list[torch.Tensor]]]":
    """Tensors of one shape, piece by piece.

    Yields:
        Where the piece is in a flat tensor, and the piece of each in float64: new, to be changed at will.
    """
    import torch

    flat = [tensor.reshape(-1) for tensor in tensors]
    for begin in range(0, flat[0].numel(), _PIECE):
        place = slice(begin, begin + _PIECE)
        yield place, [tensor[place].to(torch.float64, copy=True) for tensor in flat]
