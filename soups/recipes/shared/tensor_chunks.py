"""Reading many models side by side in little memory: mapped views of their files, and tensors in chunks."""

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

_CHUNK = 1 << 16
"""Numbers read at a time from each model: 0.5 MiB in float64."""


def mapped_view(ingredient: Ingredient) -> "State":
    """Return an ingredient's weights as a view of a file, so that many of them take no memory.

    If loading gives no such view (an old pickle), they are copied to the system's temporary folder and mapped from
    there; the copy is deleted at once and its space is freed with the last reference to it.

    Raises:
        EnvironmentFailure: there is no room for the copy.
    """
    state = ingredient.load()
    if ingredient.mapped:
        return state
    from safetensors.torch import load_file

    # Windows cannot delete a mapped file; it stays there until the system cleans its temporary folder.
    with tempfile.TemporaryDirectory(prefix="soups-", ignore_cleanup_errors=True) as folder:
        path = Path(folder) / "weights.safetensors"
        with explain_write_errors(path), path.open("wb") as stream:
            stream.write(header_bytes(layout_of(state), {}))
            for content, _ in tensor_contents(state):
                stream.write(content)
        del state
        return load_file(path)


def iterate_chunks(tensors: "Sequence[torch.Tensor]") -> "Iterator[tuple[slice, list[torch.Tensor]]]":
    """Iterate over tensors of one shape in chunks.

    Yields:
        The chunk's slice of the flat tensor, and each tensor's chunk as a new float64 tensor that may be changed.
    """
    import torch

    flat = [tensor.reshape(-1) for tensor in tensors]
    for begin in range(0, flat[0].numel(), _CHUNK):
        place = slice(begin, begin + _CHUNK)
        yield place, [tensor[place].to(torch.float64, copy=True) for tensor in flat]
