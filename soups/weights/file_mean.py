"""The plain mean of checkpoint files, straight from map to disk: without torch, and with no model in memory."""

import hashlib
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from soups.files.atomic import atomic_write
from soups.weights.safetensors_header import Layout, Segment, header_bytes, lies_in_order, read_header, segments_of

_PIECE = 1 << 18
"""Elements summed at a time: 2 MiB in float64."""
_FLOATS = ("float64", "float32", "float16")
"""What NumPy can average; bfloat16 and narrower types are torch's."""


class NotFinite(Exception):
    """A mean is no number: so is one of the ingredients', or their sum in their own type."""


def can_average_files(files: Sequence[Path]) -> bool:
    """Whether these files lie alike, tensor by tensor, in types that NumPy can average."""
    layouts = [read_header(file)[1] for file in files]
    alike = all(layout == layouts[0] for layout in layouts) and all(lies_in_order(file) for file in files)
    return alike and all(each.dtype in _FLOATS or not each.floating for each in segments_of(layouts[0]))


def write_mean(path: Path, files: Sequence[Path], card: str, threads: int) -> str:
    """Write the mean of files for which `can_average_files`; the same bytes as averaging them and writing the result.

    In float64, summed in the order given, each number rounded once; tensors that are no floating-point numbers are
    those of the first file. Beside the mapped files the memory is some MiB for each thread.

    Args:
        path: ends in `.safetensors`; whole or not at all.
        files: in canonical order.
        card: the text of the result's card.
        threads: that compute side by side.

    Returns:
        The SHA-256 of what was written, in hexadecimal.

    Raises:
        NotFinite: a mean is NaN or infinite; nothing was written.
        EnvironmentFailure: the disk is full or the folder may not be written.
    """
    layout = read_header(files[0])[1]
    digest = hashlib.sha256()
    with ExitStack() as stack:
        contents = [_content(file) for file in files]
        pool = stack.enter_context(ThreadPoolExecutor(threads))
        stream = stack.enter_context(stack.enter_context(atomic_write(path)).open("wb"))
        for part in _parts(layout, contents, card, pool, 2 * threads):
            digest.update(part)
            stream.write(part)
    return digest.hexdigest()


def _content(file: Path) -> np.ndarray:
    """What follows a file's header, mapped: (B,) uint8."""
    mapped = np.memmap(file, dtype=np.uint8, mode="r")
    return mapped[8 + int.from_bytes(mapped[:8].tobytes(), "little") :]


@dataclass(frozen=True)
class _Piece:
    segment: Segment
    begin: int
    end: int


def _parts(
    layout: Layout, contents: Sequence[np.ndarray], card: str, pool: ThreadPoolExecutor, ahead: int
) -> Iterator[bytes | memoryview]:
    """What the file consists of, in order; means are computed some pieces ahead."""
    yield header_bytes(layout, {"card": card})
    pieces = (piece for segment in segments_of(layout) for piece in _pieces(segment))
    under_way: deque[Future[bytes | memoryview]] = deque()
    while True:
        for piece in islice(pieces, ahead - len(under_way)):
            under_way.append(pool.submit(_mean, piece, contents))
        if not under_way:
            return
        yield under_way.popleft().result()


def _pieces(segment: Segment) -> Iterator[_Piece]:
    step = _PIECE * (np.dtype(segment.dtype).itemsize if segment.floating else 1)
    for begin in range(segment.begin, segment.end, step):
        yield _Piece(segment, begin, min(begin + step, segment.end))


def _mean(piece: _Piece, contents: Sequence[np.ndarray]) -> bytes | memoryview:
    if not piece.segment.floating:
        return contents[0][piece.begin : piece.end].tobytes()
    dtype = np.dtype(piece.segment.dtype).newbyteorder("<")
    columns = (content[piece.begin : piece.end].view(dtype) for content in contents)
    total = next(columns).astype(np.float64)
    addend = np.empty_like(total)
    for column in columns:
        np.copyto(addend, column)
        total += addend
    total /= len(contents)
    with np.errstate(over="ignore"):
        mean = total.astype(dtype)
    if not np.isfinite(mean).all():
        raise NotFinite
    return mean.data.cast("B")
