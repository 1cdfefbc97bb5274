"""The plain mean of checkpoint files from mapped file to file: NumPy without torch, and no model in memory."""

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
from soups.weights.safetensors_header import (
    Layout,
    Segment,
    has_canonical_order,
    header_bytes,
    read_header,
    segments_of,
)

_CHUNK = 1 << 18
"""Elements summed at a time: 2 MiB in float64."""
_NUMPY_FLOATS = ("float64", "float32", "float16")
"""dtypes that NumPy can average; bfloat16 and narrower types need torch."""


class NotFinite(Exception):
    """A mean is NaN or infinite, because an ingredient is, or because the sum exceeds the range of the dtype."""


def can_average_files(files: Sequence[Path]) -> bool:
    """Return whether these files have one layout in our order of tensors, with dtypes that NumPy can average."""
    layouts = [read_header(file)[1] for file in files]
    same = all(layout == layouts[0] for layout in layouts) and all(has_canonical_order(file) for file in files)
    return same and all(each.dtype in _NUMPY_FLOATS or not each.floating for each in segments_of(layouts[0]))


def write_mean(path: Path, files: Sequence[Path], card: str, threads: int) -> str:
    """Write the mean of files for which `can_average_files` holds, with the bytes that `average_states` would give.

    Sums are in float64 in the order given, and each mean is rounded once. Tensors that are not floating-point are
    copied from the first file. Beside the mapped files, each thread takes a few MiB of memory.

    Args:
        path: ends in `.safetensors`; written atomically.
        files: the ingredients in canonical order.
        card: the text of the result's card.
        threads: number of threads.

    Returns:
        The SHA-256 of the written file, in hexadecimal.

    Raises:
        NotFinite: a mean is NaN or infinite; nothing was written.
        EnvironmentFailure: the disk is full or the folder cannot be written.
    """
    layout = read_header(files[0])[1]
    digest = hashlib.sha256()
    with ExitStack() as stack:
        contents = [_map_tensor_bytes(file) for file in files]
        pool = stack.enter_context(ThreadPoolExecutor(threads))
        stream = stack.enter_context(stack.enter_context(atomic_write(path)).open("wb"))
        for block in _compute_file(layout, contents, card, pool, 2 * threads):
            digest.update(block)
            stream.write(block)
    return digest.hexdigest()


def _map_tensor_bytes(file: Path) -> np.ndarray:
    """Return the mapped bytes after a file's header: (B,) uint8."""
    mapped = np.memmap(file, dtype=np.uint8, mode="r")
    return mapped[8 + int.from_bytes(mapped[:8].tobytes(), "little") :]


@dataclass(frozen=True)
class _Chunk:
    """A range of bytes within one segment, counted from the end of the header."""

    segment: Segment
    begin: int
    end: int


def _compute_file(
    layout: Layout, contents: Sequence[np.ndarray], card: str, pool: ThreadPoolExecutor, ahead: int
) -> Iterator[bytes | memoryview]:
    """Yield the bytes of the file in order; `ahead` chunks are computed or queued in advance."""
    yield header_bytes(layout, {"card": card})
    chunks = (chunk for segment in segments_of(layout) for chunk in _split_segment(segment))
    pending: deque[Future[bytes | memoryview]] = deque()
    while True:
        for chunk in islice(chunks, ahead - len(pending)):
            pending.append(pool.submit(_mean_of_chunk, chunk, contents))
        if not pending:
            return
        yield pending.popleft().result()


def _split_segment(segment: Segment) -> Iterator[_Chunk]:
    step = _CHUNK * (np.dtype(segment.dtype).itemsize if segment.floating else 1)
    for begin in range(segment.begin, segment.end, step):
        yield _Chunk(segment, begin, min(begin + step, segment.end))


def _mean_of_chunk(chunk: _Chunk, contents: Sequence[np.ndarray]) -> bytes | memoryview:
    if not chunk.segment.floating:
        return contents[0][chunk.begin : chunk.end].tobytes()
    dtype = np.dtype(chunk.segment.dtype).newbyteorder("<")
    columns = (content[chunk.begin : chunk.end].view(dtype) for content in contents)
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
