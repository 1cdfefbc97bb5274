"""Headers of safetensors files: read without torch or the weights; equal tensors are written as equal bytes."""

import json
import math
from collections.abc import Iterator, Mapping
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple

from soups.core.errors import DataError, EnvironmentFailure

if TYPE_CHECKING:
    import hashlib

    import torch

Layout = dict[str, tuple[tuple[int, ...], str]]
"""Name of a tensor → its shape and torch's name of its dtype: `float32`, `int64`, …"""

_HEADER_LIMIT = 100_000_000  # safetensors' own limit, in bytes.
_NEXT_STEP = "copy the file again, or make it again"

# safetensors writes tensors sorted by dtype in this order, then by name. The order is from wide to narrow dtypes, so
# that every tensor begins at a multiple of its width.
_CODES = {
    "uint64": "U64",
    "int64": "I64",
    "float64": "F64",
    "complex64": "C64",
    "float32": "F32",
    "uint32": "U32",
    "int32": "I32",
    "bfloat16": "BF16",
    "float16": "F16",
    "uint16": "U16",
    "int16": "I16",
    "float8_e5m2fnuz": "F8_E5M2FNUZ",
    "float8_e4m3fnuz": "F8_E4M3FNUZ",
    "float8_e4m3fn": "F8_E4M3",
    "float8_e5m2": "F8_E5M2",
    "int8": "I8",
    "uint8": "U8",
    "bool": "BOOL",
}
_NAMES = {code: name for name, code in _CODES.items()}


def layout_of(state: "Mapping[str, torch.Tensor]") -> Layout:
    """Return shape and dtype of each tensor."""
    return {key: (tuple(tensor.shape), str(tensor.dtype).removeprefix("torch.")) for key, tensor in state.items()}


class LayoutDifference(NamedTuple):
    """The first tensor in which a layout differs from the expected one."""

    tensor: str
    expected: str
    """Shape and dtype; empty for an extra tensor."""
    found: str
    """Shape and dtype; empty for a missing tensor."""

    def problem(self, reference: str) -> str:
        """Return the predicate of an error message about a model; `reference` names the model with the right layout."""
        if not self.found:
            return f"lacks the tensor {self.tensor!r}"
        if not self.expected:
            return f"has an extra tensor {self.tensor!r}"
        return f"tensor {self.tensor!r} does not fit {reference}"


def find_difference(expected: Layout, found: Layout) -> LayoutDifference | None:
    """Return the first difference of two layouts in the order of names; None if they are equal."""
    for key in sorted(expected.keys() | found.keys()):
        if expected.get(key) != found.get(key):
            return LayoutDifference(key, *(" ".join(map(str, each.get(key, ()))) for each in (expected, found)))
    return None


def read_header(path: Path) -> tuple[dict[str, str], Layout]:
    """Return metadata and layout of a safetensors file; reads the header alone.

    Raises:
        DataError: the file is missing or truncated, or its header is invalid.
        EnvironmentFailure: there is no permission to read the file.
    """
    problem = f"{path}: not a whole safetensors file"
    try:
        size = path.stat().st_size
        with path.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            if not 0 < length <= min(size - 8, _HEADER_LIMIT):
                raise DataError(problem, found=f"{size} bytes with a header of {length}", next_step=_NEXT_STEP)
            header = json.loads(stream.read(length))
        metadata = header.pop("__metadata__", None) or {}
        end = max((entry["data_offsets"][1] for entry in header.values()), default=0)
        whole = size == 8 + length + end
        layout = {key: _parse_entry(entry) for key, entry in header.items()}
        if not isinstance(metadata, dict):
            raise TypeError("metadata")
    except PermissionError as error:
        raise unreadable_file_error(path) from error
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file", expected="a checkpoint") from error
    except IsADirectoryError as error:
        raise DataError(f"{path}: is a folder", expected="a checkpoint file") from error
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError) as error:
        raise DataError(problem, found="a damaged header", next_step=_NEXT_STEP) from error
    if not whole:
        raise DataError(problem, expected=f"{8 + length + end} bytes", found=f"{size} bytes", next_step=_NEXT_STEP)
    return metadata, layout


def _parse_entry(entry: Mapping[str, Any]) -> tuple[tuple[int, ...], str]:
    code, shape = str(entry["dtype"]), tuple(entry["shape"])
    if not all(isinstance(length, int) for length in shape):
        raise TypeError("shape")
    return shape, _NAMES.get(code, code)


def unreadable_file_error(path: Path) -> EnvironmentFailure:
    """Return the error for a file without read permission."""
    return EnvironmentFailure(f"{path}: no permission to read", next_step="change the file's permissions")


def file_order(layout: Layout) -> list[str]:
    """Return the names of tensors in the order of the file.

    Raises:
        DataError: the format lacks a dtype; the message names the tensor.
    """
    ranks = {name: rank for rank, name in enumerate(_CODES)}
    for key, (_, dtype) in layout.items():
        if dtype not in ranks:
            raise DataError(f"tensor {key!r} cannot be written", expected=f"one of {', '.join(ranks)}", found=dtype)
    return sorted(layout, key=lambda key: (ranks[layout[key][1]], key))


def is_floating(dtype: str) -> bool:
    """Return whether a dtype is floating-point, so that its tensors can be averaged."""
    return dtype.startswith(("float", "bfloat"))


def tensor_spans(layout: Layout) -> Iterator[tuple[str, int, int]]:
    """Yield name, begin and end of each tensor in the order of the file, in bytes after the header."""
    begin = 0
    for key in file_order(layout):
        shape, dtype = layout[key]
        digits = dtype.removeprefix("complex").lstrip("abcdefghijklmnopqrstuvwxyz").partition("_")[0]
        end = begin + math.prod(shape) * (1 if dtype == "bool" else int(digits) // 8)
        yield key, begin, end
        begin = end


def header_bytes(layout: Layout, metadata: Mapping[str, str]) -> bytes:
    """Return the header of a safetensors file of these tensors: the bytes that `safetensors.torch.save` writes.

    safetensors itself returns a header only with a copy of all weights, or in a finished file. With the header known in
    advance, weights are hashed while they are written.
    """
    entries: dict[str, Any] = {"__metadata__": dict(metadata)}
    for key, begin, end in tensor_spans(layout):
        entries[key] = {"dtype": _CODES[layout[key][1]], "shape": list(layout[key][0]), "data_offsets": [begin, end]}
    text = json.dumps(entries, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def tensor_contents(state: "Mapping[str, torch.Tensor]") -> Iterator[tuple[memoryview, bool]]:
    """Yield the bytes of each tensor in the order of the file, and whether they are a copy.

    A tensor is copied if it is not contiguous or not in CPU memory. Tensors that share memory are yielded for each
    name.
    """
    import torch

    for key in file_order(layout_of(state)):
        tensor = state[key].detach()
        on_cpu = tensor.cpu().contiguous()
        # Viewed as bytes, because NumPy lacks some dtypes.
        yield on_cpu.reshape(-1).view(torch.uint8).numpy().data, on_cpu.data_ptr() != tensor.data_ptr()


def write_hashed(
    stream: IO[bytes], header: bytes, state: "Mapping[str, torch.Tensor]", digest: "hashlib._Hash", hasher: Executor
) -> "Future[None]":
    """Write a file of tensors, and hash the same memory in another thread, because hashing takes longer than writing.

    Args:
        stream: open for writing.
        header: the result of `header_bytes` for these tensors.
        state: the tensors.
        digest: updated with all written bytes.
        hasher: an executor of one thread.

    Returns:
        A future that is done when the digest is complete.
    """
    stream.write(header)
    last = hasher.submit(digest.update, header)
    for content, copied in tensor_contents(state):
        last = hasher.submit(digest.update, content)
        stream.write(content)
        if copied:
            last.result()  # Waits, because queued copies could take the memory of a whole model.
    return last
