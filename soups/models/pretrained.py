"""Reads files of pretrained weights, and loads states into networks without a missing or extra key."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from soups.checkpoints.checkpoint import read_state
from soups.checkpoints.compatibility import WRAPPERS, strip_prefix
from soups.core.errors import DataError, UsageError, did_you_mean

if TYPE_CHECKING:
    import torch
    from torch import nn

# Buffers of OpenAI's archives that are not weights: only OpenAI's files have them.
_OPENAI_BUFFERS = frozenset({"input_resolution", "context_length", "vocab_size"})
_SHOWN_KEYS, _SHOWN_CLASSES = 4, 10
RANDOM = "none"
"""Value of `--pretrained` for random weights."""


@dataclass(frozen=True)
class WeightsFile:
    """The tensors of a weights file, their keys without wrappers' prefixes."""

    path: Path
    state: "dict[str, torch.Tensor]"
    openai: bool = False
    """Whether OpenAI published the file; OpenAI's models compute with quick-GELU."""


def read_weights(path: Path) -> WeightsFile:
    """Reads a safetensors file, a state dict or training checkpoint (`.pt`), or OpenAI's TorchScript archive.

    Raises:
        DataError: the file is missing, cut short, hostile, or holds no tensors.
    """
    state, _ = strip_prefix(read_state(path), (*WRAPPERS, "model."))
    openai = state.keys() >= _OPENAI_BUFFERS
    return WeightsFile(path, {key: tensor for key, tensor in state.items() if key not in _OPENAI_BUFFERS}, openai)


def select_prefix(state: "Mapping[str, torch.Tensor]", prefix: str) -> "dict[str, torch.Tensor]":
    """Returns the tensors whose keys begin with `prefix`, under keys without it."""
    return {key.removeprefix(prefix): tensor for key, tensor in state.items() if key.startswith(prefix)}


def find_weights_file(pretrained: str | None, model: str, tags: Sequence[str]) -> Path | None:
    """Returns the file that `--pretrained` names, or None if it is not given or `none`.

    Args:
        pretrained: the setting; not one of the tags.
        model: name of the network, for messages.
        tags: tags of the model's published weights, for messages.

    Raises:
        UsageError: it is neither a file nor `none`.
    """
    if pretrained is None or pretrained == RANDOM:
        return None
    path = Path(pretrained).expanduser()
    if path.is_file():
        return path
    raise UsageError(
        f"--pretrained {pretrained}: neither a file nor a tag of {model}",
        expected=f"a file, {RANDOM}, or one of the tags: {', '.join(tags) or f'{model} has no tags'}",
        next_step=did_you_mean(pretrained, tags, "check the path"),
    )


def load_backbone(backbone: "nn.Module", file: Path, what: str, unused: Sequence[str] = ()) -> None:
    """Loads a file of a backbone's weights, or the backbone of one of our checkpoints.

    Args:
        backbone: on the CPU.
        file: safetensors, or a file of `torch.save`.
        what: name of the network, for messages.
        unused: modules of the file to drop (a published classifier).

    Raises:
        DataError: the file is damaged or does not fit.
    """
    weights = read_weights(file)
    own = select_prefix(weights.state, "backbone.") or weights.state
    dropped = tuple(f"{name}." for name in unused)
    load_strictly(
        backbone, {key: tensor for key, tensor in own.items() if not key.startswith(dropped)}, str(file), what
    )


def load_strictly(module: "nn.Module", state: "Mapping[str, torch.Tensor]", where: str, expected: str) -> None:
    """Loads copies of a state with exactly the module's keys, cast to the module's dtypes.

    Args:
        module: on the CPU or the meta device.
        state: key → tensor.
        where: the file, for messages.
        expected: name of the network, for messages.

    Raises:
        DataError: as `check_fit`.
    """
    check_fit(module, state, where, expected)
    # Tensors of a safetensors file are views of the mapped file: without copies, rewriting the file changes the model.
    copies = {key: state[key].to(own.dtype, copy=True).contiguous() for key, own in module.state_dict().items()}
    module.load_state_dict(copies, strict=True, assign=True)


def check_fit(module: "nn.Module", state: "Mapping[str, torch.Tensor]", where: str, expected: str) -> None:
    """Checks that a state has exactly the module's keys and shapes.

    Raises:
        DataError: tensors are missing, extra or of another shape; the message names them.
    """
    own = module.state_dict()
    missing = [key for key in own if key not in state]
    extra = [key for key in state if key not in own]
    shapes = [key for key in own if key in state and own[key].shape != state[key].shape]
    problems = [f"lacks {format_keys(missing)}"] * bool(missing) + [f"has also {format_keys(extra)}"] * bool(extra)
    if shapes:
        first = shapes[0]
        of = f"{first!r} of shape {tuple(state[first].shape)} instead of {tuple(own[first].shape)}"
        problems.append(f"has {of}" + (f" and {len(shapes) - 1} more of other shapes" if len(shapes) > 1 else ""))
    if problems:
        raise DataError(
            f"{where}: its weights do not fit {expected}",
            expected=f"the {len(own)} tensors of {expected}",
            found="; ".join(problems),
            next_step="give the model (--model) and classes that these weights were made with",
        )


def check_head_rows(weight: "torch.Tensor", classes: Sequence[str], where: str, next_step: str = "") -> None:
    """Raises DataError unless the head's weight (C, D) has one row a class."""
    if weight.ndim != 2 or weight.shape[0] != len(classes):
        shape = tuple(weight.shape)
        raise DataError(
            f"{where}: its head does not fit its class list",
            expected=format_classes(classes),
            found=f"a head of shape {shape}" + (f", so {shape[0]} classes" if len(shape) == 2 else ""),
            next_step=next_step,
        )


def format_keys(keys: Sequence[str]) -> str:
    """Returns the first keys in quotes, and how many more there are."""
    shown = ", ".join(repr(key) for key in keys[:_SHOWN_KEYS])
    return f"{shown} and {len(keys) - _SHOWN_KEYS} more" if len(keys) > _SHOWN_KEYS else shown


def format_classes(classes: Sequence[str]) -> str:
    """Returns the number of classes and the first names."""
    shown = ", ".join(classes[:_SHOWN_CLASSES])
    return f"{len(classes)} classes: {shown}" + (", …" if len(classes) > _SHOWN_CLASSES else "")
