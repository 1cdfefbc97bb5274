"""Mixtures: means of ingredients whose weights differ by block of the network, and gradients of these weights."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from soups.core.errors import UsageError, unknown_name
from soups.recipes.shared.pool import Ingredient, State
from soups.recipes.shared.tensor_chunks import mapped_states
from soups.weights.chunked_mean import chunked_means

if TYPE_CHECKING:
    import torch

KINDS = ("model", "block", "tensor")
"""Unit of the coefficients: the whole network, a block, or a tensor."""
_CHUNK = 1 << 16
"""Elements at a time: 0.5 MiB in float64."""
_NUMBERED = re.compile(r"(.*?\.\d+(?:\.blocks)?(?:\.\d+)?)\.")
"""The name of a numbered block: `transformer.resblocks.3.`, `layer1.0.`, `stages.2.blocks.1.`, `blocks.4.0.`"""
_END = re.compile(r"(ln_post|proj|norm|fc_norm|norm_head|attnpool|attn_pool|conv_head|bn2|final_\w+|head\w*)(\.|$)")
"""Tensors after the numbered blocks, in open_clip's image encoders and timm's networks."""


def find_block(key: str) -> str:
    """Return the block of a classifier's tensor.

    This is `head`, the name of a numbered block (a transformer block, or a block of a stage), and for other tensors
    `stem` (patches, positions, first convolution) or `end` (last normalisation, pooling, projection).
    """
    part, _, rest = key.partition(".")
    if part == "head":
        return "head"
    if (numbered := _NUMBERED.match(key)) is not None:
        return numbered[1]
    return "end" if _END.match(rest) else "stem"


def map_blocks(state: State, per: str) -> dict[str, str]:
    """Return for each floating-point tensor the block whose coefficients it uses, in the order of the tensors' names.

    Raises:
        UsageError: `per` is not one of `KINDS`.
    """
    if per not in KINDS:
        raise unknown_name("kind of coefficients", per, KINDS)
    block_of = {"model": lambda key: "all", "block": find_block, "tensor": lambda key: key}[per]
    return {key: block_of(key) for key in sorted(state) if state[key].is_floating_point()}


class Mixture(Mapping[str, "torch.Tensor"]):
    """A weighted average of models as a state dict whose tensors are computed at each access.

    Sums are in float64 in the order of the models, chunk by chunk; tensors that are not floating-point are those of the
    first model. The only memory is that of the tensors in use.

    Args:
        states: the M models, of one layout.
        blocks: see `map_blocks`.
        shares: block → (M,) coefficients.
    """

    def __init__(
        self, states: Sequence[State], blocks: Mapping[str, str], shares: "Mapping[str, Sequence[float] | np.ndarray]"
    ) -> None:
        self.states, self.blocks = states, blocks
        self.shares = {block: [float(share) for share in values] for block, values in shares.items()}

    def __iter__(self) -> Iterator[str]:
        return iter(self.states[0])

    def __len__(self) -> int:
        return len(self.states[0])

    def __getitem__(self, key: str) -> "torch.Tensor":
        if key not in self.blocks:
            return self.states[0][key].clone()
        return chunked_means({key: [state[key] for state in self.states]}, self.shares[self.blocks[key]], 1.0)[key]


def coefficient_gradients(gradient: State, states: Sequence[State], blocks: Mapping[str, str]) -> dict[str, np.ndarray]:
    """Return the derivative of a loss with respect to each coefficient, from its gradient at the mixture's weights.

    By the chain rule, the derivative for model i in a block is the dot product of the block's gradient and the model's
    weights. It is summed in float64, chunk by chunk.

    Returns:
        Block → (M,) float64.
    """
    import torch

    derivatives = {block: np.zeros(len(states)) for block in blocks.values()}
    for key, block in blocks.items():
        flat, columns = gradient[key].reshape(-1), [state[key].reshape(-1) for state in states]
        for begin in range(0, len(flat), _CHUNK):
            chunk = slice(begin, begin + _CHUNK)
            exact = flat[chunk].to(torch.float64)
            derivatives[block] += [float(torch.dot(exact, column[chunk].to(torch.float64))) for column in columns]
    return derivatives


def mix_states(
    ingredients: Sequence[Ingredient], coefficients: Sequence[float], options: Mapping[str, Any]
) -> "dict[str, torch.Tensor]":
    """Return the state of a soup of given coefficients; equal ingredients and coefficients give equal bits.

    Args:
        ingredients: in canonical order.
        coefficients: means over the blocks, which are not used.
        options: options of the soup: `per`, and `coefficients`, block → one number per ingredient.

    Raises:
        UsageError: the coefficients do not fit the network's blocks or the number of ingredients.
        DataError: an ingredient does not fit the first, or holds NaN or infinity; the message names the tensor.
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


def mean_shares(state: State, blocks: Mapping[str, str], shares: Mapping[str, Sequence[float]]) -> tuple[float, ...]:
    """Return one coefficient per model: the mean over the blocks, weighted by their number of elements."""
    sizes = np.array([state[key].numel() for key in blocks], dtype=np.float64)
    table = np.array([shares[block] for block in blocks.values()], dtype=np.float64)
    return tuple(float(value) for value in sizes @ table / sizes.sum())
