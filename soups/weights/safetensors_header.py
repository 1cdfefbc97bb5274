"""Headers of safetensors files: read without torch or the weights, written so that equal tensors give equal bytes."""

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
"""Name of a tensor → its shape and the name of its dtype, as torch has it: `float32`, `int64`, …"""

_HEADER_LIMIT = 100_000_000  # safetensors' own limit, in bytes.
_ADVICE = "copy or make the file again"

# The order in which safetensors lays tensors out: by dtype as here, then by name. Theirs is wide to narrow, so that
# every tensor begins at a multiple of its width.
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


def dtype_name(dtype: "torch.dtype") -> str:
    """The dtype without its module: `float32`."""
    return str(dtype).rpartition(".")[2]


def layout_of(state: "Mapping[str, torch.Tensor]") -> Layout:
    """Shapes and dtypes of tensors."""
    return {key: (tuple(tensor.shape), dtype_name(tensor.dtype)) for key, tensor in state.items()}


class LayoutDifference(NamedTuple):
    """The first tensor in which a layout is not the expected one."""

    tensor: str
    expected: str
    """Shape and dtype; empty where there should be no such tensor."""
    found: str
    """Shape and dtype; empty where there is no such tensor."""

    def problem(self, reference: str) -> str:
        """What is wrong with it, to follow the name of the model; `reference` has what was expected."""
        if not self.found:
            return f"lacks the tensor {self.tensor!r}"
        return (
            f"tensor {self.tensor!r} does not fit {reference}"
            if self.expected
            else f"has an extra tensor {self.tensor!r}"
        )


def find_difference(expected: Layout, found: Layout) -> LayoutDifference | None:
    """The first difference of two layouts by the tensors' names; None where they are the same."""
    for key in sorted(expected.keys() | found.keys()):
        if expected.get(key) != found.get(key):
            return LayoutDifference(key, _in_words(expected.get(key)), _in_words(found.get(key)))
    return None


def _in_words(entry: tuple[tuple[int, ...], str] | None) -> str:
    return "" if entry is None else f"{entry[0]} {entry[1]}"


def read_header(path: Path) -> tuple[dict[str, str], Layout]:
    """Metadata and layout of a safetensors file, from its first bytes alone.

    Raises:
        DataError: the file is missing, cut short, or its header makes no sense.
        EnvironmentFailure: it may not be read.
    """
    problem = f"{path}: not a whole safetensors file"
    try:
        size = path.stat().st_size
        with path.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            if not 0 < length <= min(size - 8, _HEADER_LIMIT):
                raise DataError(problem, found=f"{size} bytes with a header of {length}", next_step=_ADVICE)
            header = json.loads(stream.read(length))
        metadata = header.pop("__metadata__", None) or {}
        end = max((entry["data_offsets"][1] for entry in header.values()), default=0)
        whole = size == 8 + length + end
        layout = {key: _described(entry) for key, entry in header.items()}
        if not isinstance(metadata, dict):
            raise TypeError("metadata")
    except PermissionError as error:
        raise unreadable_file_error(path) from error
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file", expected="a checkpoint") from error
    except IsADirectoryError as error:
        raise DataError(f"{path}: is a folder", expected="a checkpoint file") from error
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError) as error:
        raise DataError(problem, found="a damaged header", next_step=_ADVICE) from error
    if not whole:
        raise DataError(problem, expected=f"{8 + length + end} bytes", found=f"{size} bytes", next_step=_ADVICE)
    return metadata, layout


def _described(entry: Mapping[str, Any]) -> tuple[tuple[int, ...], str]:
    code, shape = str(entry["dtype"]), tuple(entry["shape"])
    if not all(isinstance(length, int) for length in shape):
        raise TypeError("shape")
    return shape, _NAMES.get(code, code)


def unreadable_file_error(path: Path) -> EnvironmentFailure:
    """The error for a file that may not be read."""
    return EnvironmentFailure(f"{path}: no permission to read", next_step="change the file's permissions")


def file_order(layout: Layout) -> list[str]:
    """The names of tensors in the order in which a file has them.

    Raises:
        DataError: a dtype that the format does not have; names the tensor.
    """
    ranks = {name: rank for rank, name in enumerate(_CODES)}
    for key, (_, dtype) in layout.items():
        if dtype not in ranks:
            raise DataError(f"tensor {key!r} cannot be written", expected=f"one of {', '.join(ranks)}", found=dtype)
    return sorted(layout, key=lambda key: (ranks[layout[key][1]], key))


class Segment(NamedTuple):
    """Tensors of one dtype that lie side by side in a file."""

    dtype: str
    begin: int
    """In bytes from the end of the header."""
    end: int

    @property
    def floating(self) -> bool:
        """Whether its numbers can be averaged."""
        return is_floating(self.dtype)


def is_floating(dtype: str) -> bool:
    """Whether a dtype's numbers can be averaged."""
    return dtype.startswith(("float", "bfloat"))


def bytes_of(entry: tuple[tuple[int, ...], str]) -> int:
    """The size of a tensor in a file."""
    shape, dtype = entry
    digits = dtype.removeprefix("complex").lstrip("abcdefghijklmnopqrstuvwxyz").partition("_")[0]
    return math.prod(shape) * (1 if dtype == "bool" else int(digits) // 8)


def segments_of(layout: Layout) -> list[Segment]:
    """What a file of this layout consists of after its header."""
    found: list[Segment] = []
    begin = 0
    for key in file_order(layout):
        end, dtype = begin + bytes_of(layout[key]), layout[key][1]
        if found and found[-1].dtype == dtype:
            found[-1] = found[-1]._replace(end=end)
        else:
            found.append(Segment(dtype, begin, end))
        begin = end
    return found


def lies_in_order(path: Path) -> bool:
    """Whether the tensors of a whole safetensors file lie where we would write them; other tools may differ."""
    layout = read_header(path)[1]
    with path.open("rb") as stream:
        header = json.loads(stream.read(int.from_bytes(stream.read(8), "little")))
    begin = 0
    for key in file_order(layout):
        end = begin + bytes_of(layout[key])
        if header[key]["data_offsets"] != [begin, end]:
            return False
        begin = end
    return True


def header_bytes(layout: Layout, metadata: Mapping[str, str]) -> bytes:
    """What a safetensors file of these tensors begins with: the same bytes as `safetensors.torch.save` gives.

    Made here because safetensors tells them only together with a copy of all weights, or in a finished file; known
    beforehand, weights can be hashed while they are written.
    """
    entries: dict[str, Any] = {"__metadata__": dict(metadata)}
    begin = 0
    for key in file_order(layout):
        end = begin + bytes_of(layout[key])
        entries[key] = {"dtype": _CODES[layout[key][1]], "shape": list(layout[key][0]), "data_offsets": [begin, end]}
        begin = end
    text = json.dumps(entries, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def tensor_contents(state: "Mapping[str, torch.Tensor]") -> Iterator[tuple[memoryview, bool]]:
    """The bytes of each tensor in the order of the file, and whether they are a copy: the tensor was not contiguous or
    not in the processor's memory. Tensors that share memory come once for each name."""
    import torch

    for key in file_order(layout_of(state)):
        tensor = state[key].detach()
        there = tensor.cpu().contiguous()
        # Not every dtype has a buffer, but bytes do.
        yield there.reshape(-1).view(torch.uint8).numpy().data, there.data_ptr() != tensor.data_ptr()


def write_hashed(
    stream: IO[bytes], header: bytes, state: "Mapping[str, torch.Tensor]", digest: "hashlib._Hash", hasher: Executor
) -> "Future[None]":
    """Write a file of tensors; what is written is hashed beside, from the same memory, for that takes longer.

    Args:
        stream: open for writing.
        header: of these tensors, as `header_bytes` gives it.
        state: the tensors.
        digest: takes in all that is written.
        hasher: of one thread.

    Returns:
        Done when the digest has taken in all of it.
    """
    stream.write(header)
    last = hasher.submit(digest.update, header)
    for content, copied in tensor_contents(state):
        last = hasher.submit(digest.update, content)
        stream.write(content)
        if copied:
            last.result()  # Else copies would wait in line, up to a whole model.
    return last
