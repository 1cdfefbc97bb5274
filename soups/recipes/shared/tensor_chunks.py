"""Mapped views of many ingredients, and iteration over their tensors chunk by chunk in float64."""

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from soups.files.atomic import explain_write_errors
from soups.recipes.shared.pool import Ingredient, State
from soups.weights.safetensors_header import header_bytes, layout_of, tensor_contents
from soups.weights.state_dict import check_compatible, check_finite

if TYPE_CHECKING:
    import torch

_CHUNK = 1 << 16
"""Elements at a time: 0.5 MiB in float64 for each model."""


def mapped_view(ingredient: Ingredient) -> State:
    """Return an ingredient's weights as views of a file, which take no memory.

    Weights of a file that cannot be mapped (an old pickle) are copied to a file in the system's temporary folder, which
    is freed with the last view.

    Raises:
        EnvironmentFailure: the disk is too full for the copy.
    """
    state = ingredient.load()
    if ingredient.mapped:
        return state
    from safetensors.torch import load_file

    # A mapped file can be deleted, except on Windows, where it stays until the temporary folder is cleaned.
    with tempfile.TemporaryDirectory(prefix="soups-", ignore_cleanup_errors=True) as folder:
        path = Path(folder) / "weights.safetensors"
        with explain_write_errors(path), path.open("wb") as stream:
            stream.write(header_bytes(layout_of(state), {}))
            stream.writelines(content for content, _ in tensor_contents(state))
        del state
        return load_file(path)


def mapped_states(ingredients: Sequence[Ingredient]) -> list[State]:
    """Return the weights of all ingredients as views of files.

    Raises:
        DataError: an ingredient does not fit the first, or holds NaN or infinity; the message names the tensor.
    """
    states: list[State] = []
    for ingredient in ingredients:
        states.append(mapped_view(ingredient))
        check_compatible(states[0], states[-1], ingredients[0].name, ingredient.name)
        check_finite(states[-1], ingredient.name)
    return states


def iterate_chunks(tensors: "Sequence[torch.Tensor]") -> "Iterator[tuple[slice, list[torch.Tensor]]]":
    """Iterate over tensors of one shape chunk by chunk.

    Yields:
        The slice of the chunk in the flattened tensors, and the chunk of each tensor in float64, as a new tensor.
    """
    import torch

    flat = [tensor.reshape(-1) for tensor in tensors]
    for begin in range(0, flat[0].numel(), _CHUNK):
        chunk = slice(begin, begin + _CHUNK)
        yield chunk, [tensor[chunk].to(torch.float64, copy=True) for tensor in flat]


def join_chunks(
    chunks: "Iterable[tuple[slice, torch.Tensor]]", like: "torch.Tensor", dtype: "torch.dtype | None" = None
) -> "torch.Tensor":
    """Return a new tensor of chunks.

    Args:
        chunks: slices of the flattened tensor, and their values.
        like: a tensor of the shape of the result.
        dtype: of the result; None: that of `like`.
    """
    import torch

    result = torch.empty(like.shape, dtype=dtype or like.dtype)
    flat = result.view(-1)
    for place, chunk in chunks:
        flat[place] = chunk
    return result
