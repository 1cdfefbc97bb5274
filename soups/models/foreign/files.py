"""Reads checkpoint files of other tools: finds the state dict inside a training checkpoint, memory-mapped if possible.

No code of a pickle is run: `checkpoints` inspects it first, then reads it with `weights_only=True`.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from soups.checkpoints.checkpoint import STATE_DICT_KEYS, find_state_dict, read_content
from soups.checkpoints.safe_unpickle import Ignored
from soups.core.errors import DataError

if TYPE_CHECKING:
    import torch

EMA_KEYS = ("state_dict_ema", "model_ema", "ema_state_dict", "model_ema_state_dict", "ema")
"""Keys of the exponential moving average (EMA) of the weights: timm, torchvision's scripts, others."""
_SHOWN = 6


def read_foreign_state(path: Path, *, sha256: str | None = None, ema: bool = False) -> "dict[str, torch.Tensor]":
    """Returns the tensors of a state dict or training checkpoint, on the CPU, under the file's own keys.

    Tensors of a safetensors file and of a zip archive of `torch.save` are views of the mapped file: they take no memory
    until they are used, and an optimizer's state in the same file is never read.

    Args:
        path: `.safetensors`, or any file of `torch.save` or TorchScript.
        sha256: expected hash of the file; None: not checked.
        ema: return the exponential moving average of the weights.

    Raises:
        DataError: the file is missing, damaged or changed, or holds no state dict, or no EMA with `ema`.
        EnvironmentFailure: the file is not readable.
    """
    import torch

    content = read_content(path, sha256)
    if ema and isinstance(content, Mapping):
        averages = _averages_in(content)
        if not averages:
            raise DataError(
                f"{path}: holds no averaged weights (EMA)",
                expected=f"a training checkpoint with {' or '.join(EMA_KEYS[:2])}",
                found="a state dict" if find_state_dict(content) is content else _format_content(content),
                next_step="leave --ema out, or move the file out of the folder",
            )
        content = averages[0]
    state = find_state_dict(content)
    if not state:
        raise DataError(
            f"{path}: holds no weights",
            expected=f"a state dict, or a training checkpoint with one under {', '.join(STATE_DICT_KEYS[:3])}",
            found=_format_content(content),
            next_step="move it out of the folder of checkpoints",
        )
    return {str(key): value for key, value in state.items() if isinstance(value, torch.Tensor)}


def holds_average(path: Path) -> bool:
    """Returns whether a readable file holds an exponential moving average of the weights beside them."""
    content = read_content(path)
    return isinstance(content, Mapping) and bool(_averages_in(content))


def _averages_in(content: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [content[key] for key in EMA_KEYS if isinstance(content.get(key), Mapping) and content[key]]


def _format_content(content: Any) -> str:
    """Returns the first keys of a dictionary, or the type of anything else."""
    if not isinstance(content, Mapping):
        return "settings without weights" if isinstance(content, Ignored) else type(content).__name__
    names = list(map(str, content))
    return (", ".join(names[:_SHOWN]) or "nothing") + (", …" if len(names) > _SHOWN else "")
