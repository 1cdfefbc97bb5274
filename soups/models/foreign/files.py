"""Checkpoint files of other tools: the state dict inside what training scripts wrap around it, mapped where possible.

Nothing of a pickle is run: `checkpoints` looks it through first, then reads it with `weights_only=True`.
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

PLAIN = ("state_dict", "model_state_dict", "model", "module")
"""Where training checkpoints keep the weights: open_clip and timm, then others."""
AVERAGED = ("state_dict_ema", "model_ema", "ema_state_dict", "model_ema_state_dict")
"""Where they keep the exponential moving average of the weights: timm, torchvision's scripts, others."""
_SHOWN = 6


def read_foreign(path: Path, *, ema: bool = False) -> "dict[str, torch.Tensor]":
    """The tensors of a state dict, or of the one inside a training checkpoint, on the CPU, under the file's own names.

    Tensors of a safetensors file and of a zip archive of `torch.save` are views of the mapped file: no memory is
    taken until they are used, and an optimizer beside them is never read.

    Args:
        path: `.safetensors`, or any file of `torch.save` or TorchScript.
        ema: take the exponential moving average of the weights.

    Raises:
        DataError: the file is missing, damaged, holds no state dict, or no averaged weights where they are asked for.
        EnvironmentFailure: it may not be read.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such file", expected="a checkpoint")
    try:
        has_wrappings = path.suffix != checkpoints.SUFFIX and not torch_archive.is_torchscript(path)
        content: Any = checkpoints.read_pickled(path) if has_wrappings else checkpoints.read_state(path)
    except PermissionError as error:
        raise unreadable_file_error(path) from error
    if not isinstance(content, Mapping):
        raise _no_weights(path, type(content).__name__)
    state = _averaged(path, content) if ema else _plain(path, content)
    return {str(key): value for key, value in state.items() if _is_tensor(value)}


def _is_tensor(value: Any) -> bool:
    import torch

    return isinstance(value, torch.Tensor)


def _is_state(value: Any) -> bool:
    return isinstance(value, Mapping) and any(map(_is_tensor, value.values()))


def _plain(path: Path, content: Mapping[str, Any]) -> Mapping[str, Any]:
    """The innermost state dict: some scripts wrap one wrapping into another."""
    for key in PLAIN:
        inner = content.get(key)
        if isinstance(inner, Mapping) and (_is_state(inner) or any(name in inner for name in PLAIN)):
            return _plain(path, inner)
    if not _is_state(content):
        raise _no_weights(path, _listed(content))
    return content


def _averaged(path: Path, content: Mapping[str, Any]) -> Mapping[str, Any]:
    for key in AVERAGED:
        if isinstance(content.get(key), Mapping):
            return _plain(path, content[key])
    found = "a plain state dict" if _is_state(content) else _listed(content)
    raise DataError(
        f"{path}: holds no averaged weights (EMA)",
        expected=f"a training checkpoint with {' or '.join(AVERAGED[:2])}",
        found=found,
        next_step="leave --ema out, or move the file out of the folder",
    )


def _no_weights(path: Path, found: str) -> DataError:
    return DataError(
        f"{path}: holds no weights",
        expected=f"a state dict, or a training checkpoint with one under {', '.join(PLAIN[:3])}",
        found=found,
        next_step="move it out of the folder of checkpoints",
    )


def _listed(content: Mapping[str, Any]) -> str:
    names = list(map(str, content))
    return (", ".join(names[:_SHOWN]) or "nothing") + (", …" if len(names) > _SHOWN else "")
