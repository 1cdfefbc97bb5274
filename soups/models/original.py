"""State dicts of the original model-soups code (Wortsman et al. 2022, github.com/mlfoundations/model-soups)."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from soups.errors import DataError

if TYPE_CHECKING:
    import torch

_WRAPPER = "module."
_BACKBONE, _HEAD = "model.visual.", "classification_head."


def is_original(state: "Mapping[str, torch.Tensor]") -> bool:
    """Whether the state is one of the original's `ModelWrapper`, perhaps under `module.`."""
    keys = {key.removeprefix(_WRAPPER) for key in state}
    return f"{_HEAD}weight" in keys and any(key.startswith(_BACKBONE) for key in keys)


def from_original(state: "Mapping[str, torch.Tensor]", path: Path) -> "dict[str, torch.Tensor]":
    """Our keys for an original state: `model.visual.*` → `backbone.*`, `classification_head.*` → `head.*`.

    What is left of the text tower (`model.transformer.*`, `model.token_embedding.weight`, `model.logit_scale`, …) is
    dropped: the original's forward uses none of it. Both divide features by their length, so logits are equal.

    Raises:
        DataError: a key belongs to neither; names it.
    """
    result = {}
    for wrapped, tensor in state.items():
        key = wrapped.removeprefix(_WRAPPER)
        if key.startswith(_BACKBONE):
            result[f"backbone.{key.removeprefix(_BACKBONE)}"] = tensor
        elif key.startswith(_HEAD):
            result[f"head.{key.removeprefix(_HEAD)}"] = tensor
        elif not key.startswith("model."):
            raise DataError(f"{path}: unknown tensor {wrapped!r}", expected="model.… or classification_head.…")
    return result


def default_classes(state: "Mapping[str, torch.Tensor]") -> tuple[str, ...]:
    """Names `0` … `C-1` for the rows of the head."""
    return tuple(str(index) for index in range(state["head.weight"].shape[0]))
