"""The state of a fine-tune in one file, whole or not at all, that tells when it was damaged or is of other settings.

The file is safetensors: tensors by number, and beside them the rest as JSON. Nothing in it is executed.
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

SUFFIX = ".state"
SHARE = 0.03
"""Of the time, the most that saving at the ends of epochs may take."""
_FORMAT = "1"
_UNKNOWN = "0" * 64
_BYTES_PER_SECOND = 100e6
"""What a disk is taken to write before it has been seen to."""


class StateFile:
    """Where the state of one fine-tune is kept, and when it is worth it.

    Args:
        path: of the file.
        settings: fingerprint of all that the weights depend on; a state of others is not used.
        minutes: between two states within an epoch; 0: none but at the ends of epochs.
    """

    def __init__(self, path: Path, settings: str, minutes: float) -> None:
        self.path = path
        self._settings, self._minutes = settings, minutes
        self._last, self._cost, self._said = time.monotonic(), 0.0, False

    def read(self) -> dict[str, Any] | None:
        """The state to go on from; None, with a notice where there is a file, if there is none to be used."""
        if not self.path.exists():
            return None
        try:
            metadata, tensors = _read(self.path)
        except DataError as error:
            logger.warning("%s; training begins anew", error)
            return None
        if metadata["settings"] != self._settings:
            logger.warning("%s: of a training with other settings or data; replaced", self.path)
            return None
        state: dict[str, Any] = _unpacked(json.loads(metadata["state"]), tensors)
        return state

    def begin(self, size: int) -> None:
        """Training begins: the time runs, and a state takes about so many bytes."""
        self._last, self._cost = time.monotonic(), size / _BYTES_PER_SECOND

    def is_due(self, *, end_of_epoch: bool) -> bool:
        """Whether it is time to save: by the clock, or at an epoch's end if that is not too often for what it costs."""
        passed = time.monotonic() - self._last
        return bool(self._minutes and passed >= 60 * self._minutes) or (end_of_epoch and passed >= self._cost / SHARE)

    def write(self, state: dict[str, Any]) -> None:
        """Keep a state in place of the one before.

        Args:
            state: tensors and plain values in dicts, lists and tuples.

        Raises:
            EnvironmentFailure: the disk is full or the folder may not be written.
        """
        started = time.monotonic()
        _write(self.path, state, self._settings)
        self._last = time.monotonic()
        self._cost = self._last - started
        self._say_if_dear()

    def _say_if_dear(self) -> None:
        """Once, where the clock that somebody set makes saving take more than its share."""
        if self._minutes and self._cost > SHARE * 60 * self._minutes and not self._said:
            self._said = True
            text = "%s: took %.1f s to save; --save-minutes %.1f would keep that below %.0f%% of the time"
            logger.warning(text, self.path, self._cost, self._cost / SHARE / 60, 100 * SHARE)

    def remove(self) -> None:
        """The model is there: the way to it is not needed any more."""
        self.path.unlink(missing_ok=True)


def _write(path: Path, state: dict[str, Any], settings: str) -> None:
    tensors: dict[str, torch.Tensor] = {}
    text = json.dumps(_packed(state, tensors))
    metadata = {"format": _FORMAT, "settings": settings, "sha256": _UNKNOWN, "state": text}
    header, digest = header_bytes(layout_of(tensors), metadata), hashlib.sha256()
    with atomic_write(path) as temporary, temporary.open("wb") as stream:
        with ThreadPoolExecutor(1) as hasher:
            write_hashed(stream, header, tensors, digest, hasher)
        stream.seek(0)  # The hash is known last, and its place is in front.
        stream.write(header.replace(_UNKNOWN.encode(), digest.hexdigest().encode(), 1))


def _read(path: Path) -> "tuple[dict[str, str], dict[str, torch.Tensor]]":
    """Metadata and tensors of a state, each in memory of its own.

    Raises:
        DataError: the file is cut short, damaged or of another version.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    metadata, _ = read_header(path)
    if metadata.get("format") != _FORMAT or not {"settings", "sha256", "state"} <= metadata.keys():
        raise DataError(f"{path}: not a state that this version of soups wrote")
    try:
        if _sha256(path, metadata["sha256"]) != metadata["sha256"]:
            raise DataError(f"{path}: damaged, its SHA-256 is not the one that it tells")
        return metadata, {key: tensor.clone() for key, tensor in load_file(path).items()}
    except (SafetensorError, OSError) as error:
        raise DataError(f"{path}: cannot be read", found=str(error).splitlines()[0]) from error


def _sha256(path: Path, told: str) -> str:
    """Of the file as it was hashed: when the hash's own place was empty."""
    with path.open("rb") as stream:
        length = stream.read(8)
        header = stream.read(int.from_bytes(length, "little"))
        digest = hashlib.sha256(length + header.replace(told.encode(), _UNKNOWN.encode(), 1))
        while part := stream.read(2**24):
            digest.update(part)
    return digest.hexdigest()


def _packed(value: Any, tensors: "dict[str, torch.Tensor]") -> Any:
    """A value as JSON has it, its tensors put aside under numbers."""
    import torch

    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, torch.Tensor):
        tensors[str(len(tensors))] = value
        return {"tensor": str(len(tensors) - 1)}
    if isinstance(value, dict):
        return {"dict": [[_packed(part, tensors) for part in pair] for pair in value.items()]}
    if isinstance(value, list | tuple):
        return {type(value).__name__: [_packed(part, tensors) for part in value]}
    raise TypeError(f"a state holds tensors and plain values, not {type(value).__name__}")


def _unpacked(value: Any, tensors: "dict[str, torch.Tensor]") -> Any:
    """The value that was packed."""
    if not isinstance(value, dict):
        return value
    ((kind, content),) = value.items()
    if kind == "tensor":
        return tensors[content]
    if kind == "dict":
        return {_unpacked(key, tensors): _unpacked(part, tensors) for key, part in content}
    return {"list": list, "tuple": tuple}[kind](_unpacked(part, tensors) for part in content)
