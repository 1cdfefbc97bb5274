"""Files of `torch.save` and TorchScript: rejected before memory is allocated if they claim more than they hold."""

import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from soups.checkpoints.safe_unpickle import (
    SCRIPTED,
    BoundedStream,
    ClaimedStorage,
    ClaimedTensor,
    PickledClass,
    UnsafePickle,
    check_opcodes,
    read_without_executing,
)
from soups.core.errors import DataError

if TYPE_CHECKING:
    import torch

NEXT_STEP = "use a file of plain tensors (safetensors, or torch.save of a state dict)"

_ZIP_MAGIC = b"PK\x03\x04"  # torch recognises its archives by these first bytes.
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_LEGACY_PICKLES = 5  # Magic number, protocol, system, content, keys of the storages; then the raw storages.
_MAX_EXPANSION = 16 * 2**20  # Bytes that decompression may add: TorchScript archives compress their source code.
_MAX_DEPTH = 100
_MAX_TIED_COPIES = 4  # Tied tensors are counted once for each name.


def is_archive(path: Path) -> bool:
    """Return whether torch would open the file as a zip archive."""
    with path.open("rb") as stream:
        return stream.read(4) == _ZIP_MAGIC


def is_plain_archive(path: Path) -> bool:
    """Return whether the file is a zip archive without compression, so that its tensors can be mapped."""
    if not is_archive(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return all(entry.compress_type == zipfile.ZIP_STORED for entry in archive.infolist())


def is_torchscript(path: Path) -> bool:
    """Return whether the file is a TorchScript archive, which has a pickle of constants."""
    if not path.is_file() or not is_archive(path):
        return False
    # A damaged archive can raise nearly any exception; `check_claims` explains it.
    with suppress(Exception), zipfile.ZipFile(path) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())
    return False


def check_claims(path: Path) -> None:
    """Raise unless a `.pt` file holds only tensors and plain values, and they fit in its size.

    Raises:
        DataError: the file is truncated, hostile or of another format; the message names the content.
    """
    with _convert_errors(path), path.open("rb") as stream:
        if is_archive(path):
            with zipfile.ZipFile(stream) as archive:
                _check_archive(path, archive)
        else:
            _check_legacy(path, stream)


def read_torchscript(path: Path) -> "dict[str, torch.Tensor]":
    """Return the tensors of a TorchScript archive by their dotted names; runs none of its code.

    Raises:
        DataError: the file is truncated or hostile.
    """
    import torch

    with _convert_errors(path), zipfile.ZipFile(path) as archive:
        content, prefix = _check_archive(path, archive)
        blobs: dict[ClaimedStorage, torch.Tensor] = {}
        state = {}
        for name, tensor in _iterate_tensors(content, ""):
            storage = tensor.storage
            if storage not in blobs:
                data = bytearray(archive.read(f"{prefix}data/{storage.key}")[: storage.size])
                empty = torch.empty(0, dtype=getattr(torch, storage.dtype))
                blobs[storage] = torch.frombuffer(data, dtype=empty.dtype) if data else empty
            state[name] = blobs[storage].as_strided(tensor.shape, tensor.stride, tensor.offset)
        return state


@contextmanager
def _convert_errors(path: Path) -> Iterator[None]:
    """Convert any exception that a damaged or hostile file causes to a `DataError`."""
    try:
        yield
    except (DataError, PermissionError):
        raise
    except PickledClass as error:
        code = f"torch.save(torch.load({str(path)!r}, weights_only=False).state_dict(), 'weights.pt')"
        next_step = f'if it is a network and you trust its code, save its weights: python -c "import torch; {code}"'
        raise DataError(f"{path}: not a safe checkpoint", found=str(error), next_step=next_step) from error
    except UnsafePickle as error:
        raise DataError(f"{path}: not a safe checkpoint", found=f"it holds {error}", next_step=NEXT_STEP) from error
    except Exception as error:
        # A damaged pickle can raise nearly any exception; none of them is a bug of this package.
        found = f"{type(error).__name__}: {' '.join(str(error).split())[:150]}"
        raise DataError(f"{path}: not a whole checkpoint", found=found, next_step=NEXT_STEP) from error


def _check_archive(path: Path, archive: zipfile.ZipFile) -> tuple[Any, str]:
    """Check the claims of an archive; return its inert content and the common folder of its entries."""
    size = path.stat().st_size
    sizes = {entry.filename: entry.file_size for entry in archive.infolist()}
    if len(sizes) < len(archive.infolist()):
        raise UnsafePickle("two entries of one name")
    claimed = sum(sizes.values())
    if claimed > size + _MAX_EXPANSION:
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
        stored = sizes.get(f"{prefix}data/{storage.key}", -1)
        if storage.size > stored:
            raise UnsafePickle(f"a storage that claims {storage.size} bytes and has {max(stored, 0)}")
    _check_tensors(tensors, size)
    return content, prefix


def _check_legacy(path: Path, stream: BinaryIO) -> None:
    """Check the claims of a file of torch before 1.6: several pickles in sequence, then the raw storages."""
    size = path.stat().st_size
    bounded = BoundedStream(stream, size)
    storages: set[ClaimedStorage] = set()
    tensors: list[ClaimedTensor] = []
    for number in range(_LEGACY_PICKLES):
        begin = stream.tell()
        check_opcodes(bounded, size)
        end = stream.tell()
        stream.seek(begin)
        content, new_storages, new_tensors = read_without_executing(stream.read(end - begin))
        if number == 0 and content != _LEGACY_MAGIC:
            raise UnsafePickle("no checkpoint of torch")
        storages |= new_storages
        tensors += new_tensors
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
    # A tensor expanded from one number, or one storage under many names, exhausts the memory when it is copied.
    claimed = sum(tensor.size for tensor in tensors)
    if claimed > _MAX_TIED_COPIES * size + 2**20:
        raise UnsafePickle(f"tensors that claim {claimed} bytes in a file of {size}")


def _iterate_tensors(value: Any, prefix: str, depth: int = 0) -> Iterator[tuple[str, ClaimedTensor]]:
    """Yield the tensors among the attributes of scripted objects with their dotted names."""
    if depth > _MAX_DEPTH:
        raise UnsafePickle(f"modules nested more than {_MAX_DEPTH} deep")
    for name, item in vars(value).items() if hasattr(value, "__dict__") else ():
        if isinstance(item, ClaimedTensor):
            yield f"{prefix}{name}", item
        elif type(item).__name__ == SCRIPTED:
            yield from _iterate_tensors(item, f"{prefix}{name}.", depth + 1)
