"""Files of `torch.save` and TorchScript: refused where they claim more than they hold, before room is made for it."""

import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from soups.checkpoints.safe_unpickle import (
    SCRIPTED,
    BoundedStream,
    ClaimedStorage,
    ClaimedTensor,
    UnsafePickle,
    check_opcodes,
    read_without_executing,
)
from soups.core.errors import DataError

if TYPE_CHECKING:
    import torch

ADVICE = "ask for a file of plain tensors (safetensors, or torch.save of a state dict)"

_ZIP_MARK = b"PK\x03\x04"  # torch tells its archives by these first bytes.
_LEGACY_MARK = 0x1950A86A20F9469CFC6C
_LEGACY_PARTS = 5  # Mark, protocol, system, content, keys of the storages; then the raw storages.
_COMPRESSED_ROOM = 16 * 2**20  # TorchScript archives compress their source code.
_DEEPEST = 100
_TIED = 4  # Tied tensors may be counted more than once.


def is_archive(path: Path) -> bool:
    """Whether torch would take the file for a zip archive."""
    with path.open("rb") as stream:
        return stream.read(4) == _ZIP_MARK


def is_plain_archive(path: Path) -> bool:
    """Whether the file is a zip archive with nothing compressed, so that its tensors can be mapped."""
    if not is_archive(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return all(entry.compress_type == zipfile.ZIP_STORED for entry in archive.infolist())


def is_torchscript(path: Path) -> bool:
    """Whether the file is a TorchScript archive, which has constants beside its data."""
    if not path.is_file() or not is_archive(path):
        return False
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith("/constants.pkl") for name in archive.namelist())
    except (zipfile.BadZipFile, OSError, ValueError):
        return False


def check_claims(path: Path) -> None:
    """Raise unless a `.pt` file holds tensors and plain values alone, and no more of them than fit in its size.

    Raises:
        DataError: the file is cut short, hostile or of another format; says what it holds.
    """
    with _explained(path), path.open("rb") as stream:
        if stream.read(4) == _ZIP_MARK:
            with zipfile.ZipFile(path) as archive:
                _check_archive(path, archive)
        else:
            stream.seek(0)
            _check_legacy(path, stream)


def read_torchscript(path: Path) -> "dict[str, torch.Tensor]":
    """The tensors of a TorchScript archive under their dotted names, read without running any of its code.

    Raises:
        DataError: the file is cut short or hostile.
    """
    import torch

    with _explained(path), zipfile.ZipFile(path) as archive:
        content, prefix = _check_archive(path, archive)
        blobs: dict[ClaimedStorage, torch.Tensor] = {}
        state = {}
        for name, tensor in _walk(content, ""):
            storage = tensor.storage
            if storage not in blobs:
                data = bytearray(archive.read(f"{prefix}data/{storage.key}")[: storage.size])
                empty = torch.empty(0, dtype=getattr(torch, storage.dtype))
                blobs[storage] = torch.frombuffer(data, dtype=empty.dtype) if data else empty
            state[name] = blobs[storage].as_strided(tensor.shape, tensor.stride, tensor.offset)
        return state


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turn whatever a broken or hostile file raises into one message."""
    try:
        yield
    except (DataError, PermissionError):
        raise
    except UnsafePickle as error:
        raise DataError(f"{path}: not a safe checkpoint", found=f"it holds {error}", next_step=ADVICE) from error
    except Exception as error:
        # A broken pickle can raise nearly anything; none of it is our fault.
        found = f"{type(error).__name__}: {' '.join(str(error).split())[:150]}"
        raise DataError(f"{path}: not a whole checkpoint", found=found, next_step=ADVICE) from error


def _check_archive(path: Path, archive: zipfile.ZipFile) -> tuple[Any, str]:
    """The inert content of an archive whose claims fit, and the folder that its names begin with."""
    size = path.stat().st_size
    sizes = {entry.filename: entry.file_size for entry in archive.infolist()}
    if len(sizes) < len(archive.infolist()):
        raise UnsafePickle("two entries of one name")
    claimed = sum(sizes.values())
    if claimed > size + _COMPRESSED_ROOM:
        raise DataError(
            f"{path}: a compressed archive that would grow to {claimed} bytes",
            expected="the uncompressed archive that torch.save writes",
        )
    data = [name for name in sizes if name.endswith("/data.pkl")]
    if len(data) != 1:
        raise UnsafePickle(f"{len(data)} pickles instead of one")
    prefix = data[0].removesuffix("data.pkl")
    content, storages, tensors = read_without_executing(archive.read(data[0]))
    for storage in storages:
        there = sizes.get(f"{prefix}data/{storage.key}", -1)
        if storage.size > there:
            raise UnsafePickle(f"a storage that claims {storage.size} bytes and has {max(there, 0)}")
    _check_tensors(tensors, size)
    return content, prefix


def _check_legacy(path: Path, stream: BinaryIO) -> None:
    """The format of torch before 1.6: pickles one after the other, then the raw storages."""
    size = path.stat().st_size
    bounded = BoundedStream(stream, size)
    storages: set[ClaimedStorage] = set()
    tensors: list[ClaimedTensor] = []
    for number in range(_LEGACY_PARTS):
        begin = stream.tell()
        check_opcodes(bounded, size)
        end = stream.tell()
        stream.seek(begin)
        content, found, made = read_without_executing(stream.read(end - begin))
        if number == 0 and content != _LEGACY_MARK:
            raise UnsafePickle("no checkpoint of torch")
        storages |= found
        tensors += made
    largest: dict[str, int] = {}
    for storage in storages:
        largest[storage.key] = max(storage.size, largest.get(storage.key, 0))
    if sum(largest.values()) > size - stream.tell():
        raise UnsafePickle(f"storages that claim {sum(largest.values())} bytes in a file of {size}")
    _check_tensors(tensors, size)


def _check_tensors(tensors: list[ClaimedTensor], size: int) -> None:
    for tensor in tensors:
        if tensor.end > tensor.storage.elements:
            raise UnsafePickle(f"a tensor of shape {tensor.shape} that reaches beyond its storage")
    # A tensor expanded from one number, or one storage under many names, is a bomb that goes off when copied.
    claimed = sum(tensor.size for tensor in tensors)
    if claimed > _TIED * size + 2**20:
        raise UnsafePickle(f"tensors that claim {claimed} bytes in a file of {size}")


def _walk(value: Any, prefix: str, depth: int = 0) -> Iterator[tuple[str, ClaimedTensor]]:
    """The tensors among the attributes of scripted objects, under their dotted names."""
    if depth > _DEEPEST:
        raise UnsafePickle(f"modules nested more than {_DEEPEST} deep")
    for name, item in vars(value).items() if hasattr(value, "__dict__") else ():
        if isinstance(item, ClaimedTensor):
            yield f"{prefix}{name}", item
        elif type(item).__name__ == SCRIPTED:
            yield from _walk(item, f"{prefix}{name}.", depth + 1)
