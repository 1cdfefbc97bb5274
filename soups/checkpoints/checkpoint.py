"""Checkpoint files: safetensors files with a card, and safe reading of `.pt` files of other tools."""

import hashlib
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from soups.checkpoints import torch_archive
from soups.checkpoints.card import Card, card_text
from soups.checkpoints.other_files import check_is_no_other_file
from soups.checkpoints.safe_unpickle import IGNORED, Ignored
from soups.core.errors import DataError
from soups.files.atomic import atomic_write, sha256_of
from soups.files.file_hashes import check_hash
from soups.weights.safetensors_header import (
    Layout,
    header_bytes,
    layout_of,
    read_header,
    unreadable_file_error,
    write_hashed,
)

if TYPE_CHECKING:
    import torch

SUFFIX = ".safetensors"
STATE_DICT_KEYS = ("state_dict", "model_state_dict", "model", "module")
"""Keys of the weights in training checkpoints: open_clip and timm, then others."""
_MAX_NESTING = 8  # A hostile dictionary may contain itself.


def write_checkpoint(path: Path, state: "Mapping[str, torch.Tensor]", card: Card | str) -> str:
    """Write weights and card as one safetensors file, atomically.

    Args:
        path: ends in `.safetensors`.
        state: tensors on any device, of any dtype of the format. A tensor is copied only if it is not contiguous or not
            in CPU memory, one at a time. Tensors that share memory are stored once for each name.
        card: the value of the only metadata key, `card`, so that the bytes depend on nothing else; or its text.

    Returns:
        The file's SHA-256 in hexadecimal.

    Raises:
        DataError: the format lacks the dtype of a tensor.
        EnvironmentFailure: the disk is full or the folder cannot be written.
    """
    metadata = {"card": card if isinstance(card, str) else card_text(card)}
    header, digest = header_bytes(layout_of(state), metadata), hashlib.sha256()
    with ThreadPoolExecutor(1) as hasher:
        with atomic_write(path) as temporary, temporary.open("wb") as stream:
            last = write_hashed(stream, header, state, digest, hasher)
        last.result()
    return digest.hexdigest()


def read_layout(path: Path) -> Layout:
    """Return names, shapes and dtypes of a checkpoint's tensors.

    For a safetensors file, neither torch nor the weights are loaded.

    Raises:
        DataError: the file is missing, truncated or damaged, or holds anything but tensors.
        EnvironmentFailure: there is no permission to read the file.
    """
    return read_header(path)[1] if path.suffix == SUFFIX else layout_of(read_state(path))


def read_state(path: Path, sha256: str | None = None) -> "dict[str, torch.Tensor]":
    """Return the tensors of a `.safetensors`, `.pt`, `.pth` or `.bin` file or a TorchScript archive, on the CPU.

    Tensors of safetensors files and of the archives that `torch.save` writes since torch 1.6 are views of the mapped
    file: they take no process memory until they are changed, and a change never reaches the file.

    Args:
        path: the file; pickled formats are checked by `torch_archive` and read with `weights_only=True`.
        sha256: the expected hash of the file's bytes; None skips the check.

    Raises:
        DataError: the file is missing, truncated or damaged, has another hash, or holds anything but tensors.
        EnvironmentFailure: there is no permission to read the file.
    """
    import torch

    content = read_content(path, sha256)
    if path.suffix == SUFFIX:
        return content
    state = dict(find_state_dict(content))
    if not state or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise DataError(f"{path}: not a state dict", expected="names and tensors", next_step=torch_archive.NEXT_STEP)
    return state


def read_content(path: Path, sha256: str | None = None) -> Any:
    """Return the content of a file as `read_state` accepts it: tensors by name, or any content of `torch.save`.

    Raises:
        DataError: the file is missing, truncated or damaged, has another hash, or holds more than plain values.
        EnvironmentFailure: there is no permission to read the file.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such file", expected="a checkpoint")
    try:
        check_is_no_other_file(path)
        if sha256 is not None:
            check_hash(path, sha256, sha256_of(path))
        if path.suffix == SUFFIX:
            return _read_safetensors(path)
        return torch_archive.read_torchscript(path) if torch_archive.is_torchscript(path) else _read_pickle(path)
    except PermissionError as error:
        raise unreadable_file_error(path) from error


def _read_safetensors(path: Path) -> "dict[str, torch.Tensor]":
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    read_header(path)
    try:
        return load_file(path)
    except (SafetensorError, ValueError, OSError) as error:
        raise DataError(f"{path}: not a readable safetensors file", found=str(error).splitlines()[0]) from error


def _read_pickle(path: Path) -> Any:
    """Return the content of a file of `torch.save`, with tensors on the CPU, mapped if the format allows it."""
    import torch

    torch_archive.check_claims(path)
    try:
        mapped = torch_archive.is_plain_archive(path)
        with torch.serialization.safe_globals([(Ignored, name) for name in IGNORED]):
            return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except Exception as error:
        # A hostile or damaged pickle can raise nearly any exception; none of them is a bug of this package.
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        problem = f"{path}: not a safe, whole checkpoint"
        raise DataError(problem, found=reason[:200], next_step=torch_archive.NEXT_STEP) from error


def find_state_dict(content: Any) -> Mapping[str, Any]:
    """Return the state dict inside the dictionaries that training scripts add, nested or not; empty if none."""
    if not isinstance(content, Mapping):
        return {}
    for _ in range(_MAX_NESTING):
        inner = (content[key] for key in STATE_DICT_KEYS if isinstance(content.get(key), Mapping))
        content = next(
            (each for each in inner if _has_tensors(each) or not each.keys().isdisjoint(STATE_DICT_KEYS)), content
        )
    return content if _has_tensors(content) else {}


def _has_tensors(content: Mapping[str, Any]) -> bool:
    import torch

    return any(isinstance(value, torch.Tensor) for value in content.values())
