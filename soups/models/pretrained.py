"""Public weights: which keys a file has, whose they are, and loading them without losing one."""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from soups.checkpoints import checkpoint as checkpoints
from soups.checkpoints.compatibility import WRAPPERS, strip_prefix
from soups.core.errors import DataError, UsageError

if TYPE_CHECKING:
    import torch
    from torch import nn

# Buffers of OpenAI's archives that are no weights; their presence tells OpenAI's files from all others.
_OPENAI_MARKS = frozenset({"input_resolution", "context_length", "vocab_size"})
_WRAPPERS = (*WRAPPERS, "model.")
_SHOWN = 4
RANDOM = "none"
"""What `--pretrained` is for random weights."""


@dataclass(frozen=True)
class Weights:
    """The tensors of a weights file, their keys without wrappers' prefixes."""

    path: Path
    state: "dict[str, torch.Tensor]"
    openai: bool = False
    """Whether the file is OpenAI's own, whose models compute with quick-GELU."""


def read_weights(path: Path) -> Weights:
    """Read a safetensors file, a state dict or training checkpoint (`.pt`), or OpenAI's TorchScript archive.

    Raises:
        DataError: the file is missing, cut short, hostile, or holds no tensors.
    """
    state = strip_wrapper_prefixes(checkpoints.read_state(path))
    openai = state.keys() >= _OPENAI_MARKS
    return Weights(path, {key: tensor for key, tensor in state.items() if key not in _OPENAI_MARKS}, openai)


def strip_wrapper_prefixes(state: "Mapping[str, torch.Tensor]") -> "dict[str, torch.Tensor]":
    """The state without prefixes that wrap every key (`module.` of parallel training, `_orig_mod.`, `model.`)."""
    return strip_prefix(state, _WRAPPERS)[0]


def select_prefix(state: "Mapping[str, torch.Tensor]", prefix: str) -> "dict[str, torch.Tensor]":
    """The tensors whose keys begin with `prefix`, without it."""
    return {key.removeprefix(prefix): tensor for key, tensor in state.items() if key.startswith(prefix)}


def find_weights_file(pretrained: str | None, model: str, tags: Sequence[str]) -> Path | None:
    """The file that `--pretrained` names where it is no tag; None where it says nothing or `none`.

    Args:
        pretrained: the setting.
        model: what it is for, for messages.
        tags: of the model's published weights.

    Raises:
        UsageError: it is neither a file nor `none`.
    """
    if pretrained is None or pretrained == RANDOM:
        return None
    path = Path(pretrained).expanduser()
    if path.is_file():
        return path
    near = difflib.get_close_matches(pretrained, tags, n=1)
    raise UsageError(
        f"--pretrained {pretrained}: neither a file nor a tag of {model}",
        expected=f"a file, {RANDOM}, or one of the tags: {', '.join(tags) or 'there are none'}",
        next_step=f"did you mean {near[0]!r}?" if near else "check the path",
    )


def load_backbone(backbone: "nn.Module", file: Path, what: str, unused: Sequence[str] = ()) -> None:
    """Fill a backbone from a file of its own weights, or from one of our checkpoints.

    Args:
        backbone: on the CPU.
        file: safetensors, or a file of `torch.save`.
        what: the network, for messages.
        unused: modules of the file (a published classifier) that a backbone does not have.

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
    """Fill a module (on the CPU or without storage) with copies of a state that is exactly its own, in its dtypes.

    Raises:
        DataError: as `check_fit`.
    """
    check_fit(module, state, where, expected)
    # A tensor of a safetensors file is the file itself, mapped: whoever rewrites the file would change the model.
    copies = {key: state[key].to(own.dtype, copy=True).contiguous() for key, own in module.state_dict().items()}
    module.load_state_dict(copies, strict=True, assign=True)


def check_fit(module: "nn.Module", state: "Mapping[str, torch.Tensor]", where: str, expected: str) -> None:
    """Raise unless a state has exactly the module's keys and shapes.

    Raises:
        DataError: tensors are missing, left over or of another shape; names them.
    """
    own = module.state_dict()
    missing = [key for key in own if key not in state]
    extra = [key for key in state if key not in own]
    shapes = [key for key in own if key in state and own[key].shape != state[key].shape]
    problems = [f"lacks {_listed(missing)}"] * bool(missing) + [f"has also {_listed(extra)}"] * bool(extra)
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


def _listed(keys: list[str]) -> str:
    shown = ", ".join(repr(key) for key in keys[:_SHOWN])
    return f"{shown} and {len(keys) - _SHOWN} more" if len(keys) > _SHOWN else shown
