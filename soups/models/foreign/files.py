"""Reads checkpoint files of other tools: finds the state dict inside a training checkpoint, memory-mapped if possible.

No code of a pickle is run: `checkpoints` inspects it first, then reads it with `weights_only=True`.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from soups.checkpoints import checkpoint as checkpoints
from soups.checkpoints import torch_archive
from soups.core.errors import DataError
from soups.weights.safetensors_header import unreadable_file_error

if TYPE_CHECKING:
    import torch

STATE_DICT_KEYS = ("state_dict", "model_state_dict", "model", "module")
"""Keys of the weights in training checkpoints: open_clip and timm, then others."""
EMA_KEYS = ("state_dict_ema", "model_ema", "ema_state_dict", "model_ema_state_dict")
"""Keys of the exponential moving average (EMA) of the weights: timm, torchvision's scripts, others."""
_SHOWN = 6


def read_foreign_state(path: Path, *, ema: bool = False) -> "dict[str, torch.Tensor]":
    """Returns the tensors of a state dict or training checkpoint, on the CPU, under the file's own keys.

    Tensors of a safetensors file and of a zip archive of `torch.save` are views of the mapped file: they take no memory
    until they are used, and an optimizer's state in the same file is never read.

    Args:
        path: `.safetensors`, or any file of `torch.save` or TorchScript.
        ema: return the exponential moving average of the weights.

    Raises:
        DataError: the file is missing or damaged, or holds no state dict, or no EMA with `ema`.
        EnvironmentFailure: the file is not readable.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such file", expected="a checkpoint")
    try:
        is_pickle = path.suffix != checkpoints.SUFFIX and not torch_archive.is_torchscript(path)
        content: Any = checkpoints.read_pickled(path) if is_pickle else checkpoints.read_state(path)
    except PermissionError as error:
        raise unreadable_file_error(path) from error
    if not isinstance(content, Mapping):
        raise _no_weights_error(path, type(content).__name__)
    state = _find_ema(path, content) if ema else _find_state_dict(path, content)
    return {str(key): value for key, value in state.items() if _is_tensor(value)}


def _is_tensor(value: Any) -> bool:
    import torch

    return isinstance(value, torch.Tensor)


def _has_tensors(value: Any) -> bool:
    return isinstance(value, Mapping) and any(map(_is_tensor, value.values()))


def _find_state_dict(path: Path, content: Mapping[str, Any]) -> Mapping[str, Any]:
    """Returns the innermost state dict: some scripts nest several dictionaries."""
    for key in STATE_DICT_KEYS:
        inner = content.get(key)
        if isinstance(inner, Mapping) and (_has_tensors(inner) or any(name in inner for name in STATE_DICT_KEYS)):
            return _find_state_dict(path, inner)
    if not _has_tensors(content):
        raise _no_weights_error(path, _format_names(content))
    return content


def _find_ema(path: Path, content: Mapping[str, Any]) -> Mapping[str, Any]:
    for key in EMA_KEYS:
        if isinstance(content.get(key), Mapping):
            return _find_state_dict(path, content[key])
    found = "a state dict" if _has_tensors(content) else _format_names(content)
    raise DataError(
        f"{path}: holds no averaged weights (EMA)",
        expected=f"a training checkpoint with {' or '.join(EMA_KEYS[:2])}",
        found=found,
        next_step="leave --ema out, or move the file out of the folder",
    )


def _no_weights_error(path: Path, found: str) -> DataError:
    return DataError(
        f"{path}: holds no weights",
        expected=f"a state dict, or a training checkpoint with one under {', '.join(STATE_DICT_KEYS[:3])}",
        found=found,
        next_step="move it out of the folder of checkpoints",
    )


def _format_names(content: Mapping[str, Any]) -> str:
    names = list(map(str, content))
    return (", ".join(names[:_SHOWN]) or "nothing") + (", …" if len(names) > _SHOWN else "")
