"""Vision transformers under the tensor names of Hugging Face's transformers: conversion to timm's names.

Source: `transformers.models.vit.modeling_vit` and `timm.models.vision_transformer`. timm joins query, key and value.
"""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

_LAYER = r"(?:vit\.|deit\.)?encoder\.layer\.(\d+)\."
_RENAMES = (
    (r"(?:vit\.|deit\.)?embeddings\.cls_token", "cls_token"),
    (r"(?:vit\.|deit\.)?embeddings\.position_embeddings", "pos_embed"),
    (r"(?:vit\.|deit\.)?embeddings\.patch_embeddings\.projection\.", "patch_embed.proj."),
    (rf"{_LAYER}attention\.attention\.(query|key|value)\.", r"blocks.\1.attn.\2."),
    (rf"{_LAYER}attention\.output\.dense\.", r"blocks.\1.attn.proj."),
    (rf"{_LAYER}intermediate\.dense\.", r"blocks.\1.mlp.fc1."),
    (rf"{_LAYER}output\.dense\.", r"blocks.\1.mlp.fc2."),
    (rf"{_LAYER}layernorm_before\.", r"blocks.\1.norm1."),
    (rf"{_LAYER}layernorm_after\.", r"blocks.\1.norm2."),
    (r"(?:vit\.|deit\.)?layernorm\.", "norm."),
    (r"classifier\.", "head."),
)


def is_hugging_face_vit(keys: Iterable[str]) -> bool:
    """Return whether tensor names are those of a vision transformer of transformers."""
    return any(re.match(rf"{_LAYER}attention\.attention\.query\.", key) for key in keys)


def convert(source: str | Path, target: str | Path) -> None:
    """Write a vision transformer of transformers as a state dict under timm's names (`head` is the classifier).

    Args:
        source: `.safetensors`, or any file that `read_foreign_state` reads.
        target: the file to write, `.safetensors`.

    Raises:
        DataError: the source is damaged, or lacks a query, key or value.
    """
    from safetensors.torch import save_file

    from soups.models.foreign.files import read_foreign_state

    save_file(to_timm_names(read_foreign_state(Path(source))), target)


def to_timm_names(state: "dict[str, torch.Tensor]") -> "dict[str, torch.Tensor]":
    """Return the tensors under timm's names; query, key and value are joined, and a pooler is dropped."""
    import torch

    named: dict[str, torch.Tensor] = {}
    for key, tensor in state.items():
        for pattern, name in _RENAMES:
            if match := re.match(pattern, key):
                named[match.expand(name) + key[match.end() :]] = tensor.contiguous()
                break
    for key in [key for key in named if ".attn.query." in key]:
        parts = [named.pop(key.replace("query", part)) for part in ("query", "key", "value")]
        named[key.replace("query", "qkv")] = torch.cat(parts)
    return named
