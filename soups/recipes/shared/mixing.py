"""Mixtures: weighted averages with separate coefficients for each block of the network."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from soups.core.errors import UsageError, unknown_name
from soups.recipes.shared.pool import Ingredient
from soups.recipes.shared.tensor_chunks import mapped_view
from soups.weights.chunked_mean import write_mean_of_chunk
from soups.weights.state_dict import check_compatible, check_finite

if TYPE_CHECKING:
    import torch

    from soups.recipes.shared.pool import State

KINDS = ("model", "block", "tensor")
"""Granularities of the coefficients: the whole network, each block, each tensor."""
_CHUNK = 1 << 16
"""Numbers processed at a time: 0.5 MiB in float64."""
_NUMBERED_BLOCK = re.compile(r"(.*?\.\d+(?:\.blocks)?(?:\.\d+)?)\.")
"""Matches up to the number of a block: `transformer.resblocks.3.`, `layer1.0.`, `stages.2.blocks.1.`, `blocks.4.0.`"""
_END_BLOCK = re.compile(
    r"(ln_post|proj|norm|fc_norm|norm_head|attnpool|attn_pool|conv_head|bn2|final_\w+|head\w*)(\.|$)"
)
"""Matches unnumbered tensors behind the numbered blocks, in open_clip's towers and timm's networks."""


def find_block(key: str) -> str:
    """Return the block that a classifier's tensor belongs to.

    `head`, or the name of a numbered block (transformer block, or block of a stage). Other tensors belong to `stem`
    (patches, positions, first convolution) or `end` (last normalisation, pooling, projection).
    """
    room, _, rest = key.partition(".")
    if room == "head":
        return "head"
    if (numbered := _NUMBERED_BLOCK.match(key)) is not None:
        return numbered[1]
    return "end" if _END_BLOCK.match(rest) else "stem"


def map_blocks(state: "State", per: str) -> dict[str, str]:
    """Return floating-point tensor name → name of its coefficients; blocks in the order of the tensors' names.

    Raises:
        UsageError: an unknown granularity; lists the known ones.
    """
    if per not in KINDS:
        raise unknown_name("kind of coefficients", per, KINDS)
    named = {"model": lambda key: "all", "block": find_block, "tensor": lambda key: key}[per]
    return {key: named(key) for key in sorted(state) if state[key].is_floating_point()}


def mapped_states(ingredients: Sequence[Ingredient]) -> "list[State]":
    """Return the weights of all ingredients as views of files.

    Raises:
        DataError: an ingredient does not fit the first, or holds NaN or infinity; names ingredient and tensor.
    """
    states = [mapped_view(ingredient) for ingredient in ingredients]
    for ingredient, state in zip(ingredients, states, strict=True):
        check_finite(state, ingredient.name)
    for ingredient, state in zip(ingredients[1:], states[1:], strict=True):
        check_compatible(states[0], state, ingredients[0].name, ingredient.name)
    return states


class Mixture(Mapping[str, "torch.Tensor"]):
    """A weighted average of models as a read-only state dict that computes a tensor on each access.

    Sums in float64 in the order of the models, a chunk at a time. Tensors that are not floating-point are those of the
    first model. Only the tensor in use takes memory.

    Args:
        states: the M models, of one layout.
        blocks: see `map_blocks`.
        shares: block → (M,) coefficients.
    """

    def __init__(
        self, states: "Sequence[State]", blocks: Mapping[str, str], shares: "Mapping[str, Sequence[float] | np.ndarray]"
    ) -> None:
        self.states, self.blocks = states, blocks
        self.shares = {block: [float(share) for share in values] for block, values in shares.items()}

    def __iter__(self) -> Iterator[str]:
        return iter(self.states[0])

    def __len__(self) -> int:
        return len(self.states[0])

    def __getitem__(self, key: str) -> "torch.Tensor":
        import torch

        first = self.states[0][key]
        if key not in self.blocks:
            return first.clone()
        shares = self.shares[self.blocks[key]]
        columns = [state[key].reshape(-1) for state in self.states]
        mixed = torch.empty(first.shape, dtype=first.dtype)
        flat = mixed.view(-1)
        buffer = torch.empty(2, min(_CHUNK, len(flat)), dtype=torch.float64)
        for begin in range(0, len(flat), _CHUNK):
            piece = slice(begin, begin + _CHUNK)
            write_mean_of_chunk(flat[piece], [column[piece] for column in columns], shares, 1.0, buffer)
        return mixed


def coefficient_gradients(
    gradient: "State", states: "Sequence[State]", blocks: Mapping[str, str]
) -> dict[str, np.ndarray]:
    """Return the derivative of a loss with respect to each coefficient, from its gradient at the mixture's weights.

    By the chain rule, the derivative for model i in a block is the dot product of the block's gradient and the model's
    weights there. Sums in float64, a chunk at a time.

    Returns:
        Block → (M,) float64.
    """
    import torch

    found = {block: np.zeros(len(states)) for block in blocks.values()}
    for key, block in blocks.items():
        slope, columns = gradient[key].reshape(-1), [state[key].reshape(-1) for state in states]
        for begin in range(0, len(slope), _CHUNK):
            piece = slice(begin, begin + _CHUNK)
            exact = slope[piece].to(torch.float64)
            found[block] += [float(torch.dot(exact, column[piece].to(torch.float64))) for column in columns]
    return found


def mix_states(ingredients: Sequence[Ingredient], options: Mapping[str, Any]) -> "dict[str, torch.Tensor]":
    """Return the state of a soup with known coefficients: the same bits for the same ingredients and coefficients.

    Args:
        ingredients: in canonical order.
        options: of the soup: `per`, and `coefficients`, block → one number per ingredient.

    Raises:
        UsageError: the coefficients do not match the blocks of the network, or their number not the ingredients.
        DataError: an ingredient does not fit the first, or holds NaN or infinity; names ingredient and tensor.
    """
    states = mapped_states(ingredients)
    blocks, shares = map_blocks(states[0], options["per"]), options["coefficients"]
    if set(shares) != set(blocks.values()) or any(len(values) != len(states) for values in shares.values()):
        raise UsageError(
            "coefficients of a mixture",
            expected=f"{len(states)} numbers for each of {', '.join(dict.fromkeys(blocks.values()))}",
            found=", ".join(f"{len(values)} for {block}" for block, values in shares.items()),
        )
    return dict(Mixture(states, blocks, shares))


def mean_shares(state: "State", blocks: Mapping[str, str], shares: Mapping[str, Sequence[float]]) -> tuple[float, ...]:
    """Return one coefficient per model: the mean over blocks, weighted by the number of weights in each."""
    sizes = np.array([state[key].numel() for key in blocks], dtype=np.float64)
    table = np.array([shares[block] for block in blocks.values()], dtype=np.float64)
    return tuple(float(value) for value in sizes @ table / sizes.sum())
