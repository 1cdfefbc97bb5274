"""The resumable state of a fine-tune in one file, written atomically, with a checksum and a settings fingerprint.

The format is safetensors: numbered tensors, and the rest as JSON in the metadata. Reading it executes nothing.
"""

import hashlib
import json
import logging
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from soups.core.errors import DataError
from soups.files.atomic import atomic_write
from soups.weights.safetensors_header import header_bytes, layout_of, read_header, write_hashed

if TYPE_CHECKING:
    import torch

logger = logging.getLogger(__name__)

MAX_SAVE_SHARE = 0.03
"""Largest share of the training time that saving at the ends of epochs may take."""
_FORMAT = "1"
_DIGEST_PLACEHOLDER = "0" * 64
_BYTES_PER_SECOND = 100e6
"""Assumed write speed of a disk before the first measurement."""


class StateFile:
    """File of the state of one fine-tune; decides when saving is due.

    Args:
        path: the file.
        settings: fingerprint of everything the weights depend on; a state with another fingerprint is not used.
        minutes: minutes between two states within an epoch; 0: save only at the ends of epochs.
    """

    def __init__(self, path: Path, settings: str, minutes: float) -> None:
        self.path = path
        self._settings, self._minutes = settings, minutes
        self._last_save, self._save_seconds, self._warned = time.monotonic(), 0.0, False

    def read(self) -> dict[str, Any] | None:
        """Returns the state to resume from; None, with a warning if the file exists, if there is no usable one."""
        if not self.path.exists():
            return None
        try:
            metadata, tensors = _read_state(self.path)
        except DataError as error:
            logger.warning("%s; training starts again from the first epoch", error)
            return None
        if metadata["settings"] != self._settings:
            logger.warning("%s: belongs to a training with other settings or data; it will be replaced", self.path)
            return None
        return dict[str, Any](_unpack(json.loads(metadata["state"]), tensors))

    def start_clock(self, size: int) -> None:
        """Start the clock of a training whose state has about `size` bytes."""
        self._last_save, self._save_seconds = time.monotonic(), size / _BYTES_PER_SECOND

    def is_due(self, *, end_of_epoch: bool) -> bool:
        """Whether to save: after the given minutes, or at an epoch's end if the cost stays below `MAX_SAVE_SHARE`."""
        passed = time.monotonic() - self._last_save
        limit = self._save_seconds / MAX_SAVE_SHARE
        return passed >= 60 * self._minutes > 0 or (end_of_epoch and passed >= limit)

    def write(self, state: dict[str, Any]) -> None:
        """Replace the saved state.

        Args:
            state: tensors and plain values in dicts, lists and tuples.

        Raises:
            EnvironmentFailure: the disk is full or the folder is not writable.
        """
        started = time.monotonic()
        tensors: dict[str, torch.Tensor] = {}
        text = json.dumps(_pack(state, tensors))
        metadata = {"format": _FORMAT, "settings": self._settings, "sha256": _DIGEST_PLACEHOLDER, "state": text}
        header, digest = header_bytes(layout_of(tensors), metadata), hashlib.sha256()
        with atomic_write(self.path) as temporary, temporary.open("wb") as stream:
            with ThreadPoolExecutor(1) as hasher:
                write_hashed(stream, header, tensors, digest, hasher)
            stream.seek(0)  # The digest is known last, but its place is in the header.
            stream.write(header.replace(_DIGEST_PLACEHOLDER.encode(), digest.hexdigest().encode(), 1))
        self._last_save = time.monotonic()
        self._save_seconds = self._last_save - started
        minutes = self._save_seconds / MAX_SAVE_SHARE / 60
        if minutes > self._minutes > 0 and not self._warned:
            self._warned = True
            text = "%s: took %.1f s to save; with --save-minutes %.1f saving takes less than %.0f%% of the time"
            logger.warning(text, self.path, self._save_seconds, minutes, 100 * MAX_SAVE_SHARE)


def _read_state(path: Path) -> "tuple[dict[str, str], dict[str, torch.Tensor]]":
    """Returns metadata and tensors of a state; each tensor has its own memory.

    Raises:
        DataError: the file is truncated, damaged or of another version.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    metadata, _ = read_header(path)
    if metadata.get("format") != _FORMAT or not {"settings", "sha256", "state"} <= metadata.keys():
        raise DataError(f"{path}: not a state file of this version of soups")
    try:
        if _compute_digest(path, metadata["sha256"]) != metadata["sha256"]:
            raise DataError(f"{path}: damaged: its SHA-256 differs from the recorded one")
        return metadata, {key: tensor.clone() for key, tensor in load_file(path).items()}
    except (SafetensorError, OSError) as error:
        raise DataError(f"{path}: cannot be read", found=str(error).splitlines()[0]) from error


def _compute_digest(path: Path, recorded: str) -> str:
    """Returns the digest of the file with the digest's own place filled with zeros, as when it was written."""
    with path.open("rb") as stream:
        length = stream.read(8)
        header = stream.read(int.from_bytes(length, "little"))
        digest = hashlib.sha256(length + header.replace(recorded.encode(), _DIGEST_PLACEHOLDER.encode(), 1))
        while part := stream.read(2**24):
            digest.update(part)
    return digest.hexdigest()


def _pack(value: Any, tensors: "dict[str, torch.Tensor]") -> Any:
    """Returns a value in a form that JSON can hold; tensors are moved to `tensors` under numbers."""
    import torch

    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, torch.Tensor):
        tensors[str(len(tensors))] = value
        return {"tensor": str(len(tensors) - 1)}
    if isinstance(value, dict):
        return {"dict": [[_pack(part, tensors) for part in pair] for pair in value.items()]}
    if isinstance(value, list | tuple):
        return {type(value).__name__: [_pack(part, tensors) for part in value]}
    raise TypeError(f"a state holds tensors and plain values, not {type(value).__name__}")


def _unpack(value: Any, tensors: "dict[str, torch.Tensor]") -> Any:
    """Returns the original of a value from `_pack`."""
    if not isinstance(value, dict):
        return value
    ((kind, content),) = value.items()
    if kind == "tensor":
        return tensors[content]
    if kind == "dict":
        return {_unpack(key, tensors): _unpack(part, tensors) for key, part in content}
    return {"list": list, "tuple": tuple}[kind](_unpack(part, tensors) for part in content)
