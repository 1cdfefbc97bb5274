"""The plain mean of checkpoint files from mapped file to file: NumPy without torch, and no model in memory."""

import hashlib
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from itertools import groupby, islice
from pathlib import Path

import numpy as np

from soups.files.atomic import atomic_write
from soups.weights.safetensors_header import Layout, header_bytes, is_floating, read_header, tensor_spans

_CHUNK = 1 << 18
"""Elements summed at a time: 2 MiB in float64."""
_NUMPY_FLOATS = ("float64", "float32", "float16")
"""dtypes that NumPy can average; bfloat16 and narrower types need torch."""


class NotFinite(Exception):
    """A mean is NaN or infinite, because an ingredient is, or because the sum exceeds the range of the dtype."""


def can_average_files(files: Sequence[Path]) -> bool:
    """Return whether these files have one layout in our order of tensors, with dtypes that NumPy can average."""
    layout = read_header(files[0])[1]
    if not all(dtype in _NUMPY_FLOATS or not is_floating(dtype) for _, dtype in layout.values()):
        return False
    for file in files:
        metadata, own_layout = read_header(file)
        header = header_bytes(own_layout, metadata)
        with file.open("rb") as stream:  # Other tools may write the tensors in another order.
            if own_layout != layout or stream.read(len(header)) != header:
                return False
    return True


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


def _compute_file(
    layout: Layout, contents: Sequence[np.ndarray], card: str, pool: ThreadPoolExecutor, ahead: int
) -> Iterator[bytes | memoryview]:
    """Yield the bytes of the file in order; `ahead` chunks are computed or queued in advance."""
    yield header_bytes(layout, {"card": card})
    chunks = _split_into_chunks(layout)
    pending: deque[Future[bytes | memoryview]] = deque()
    while True:
        for dtype, begin, end in islice(chunks, ahead - len(pending)):
            pending.append(pool.submit(_mean_of_chunk, [content[begin:end] for content in contents], dtype))
        if not pending:
            return
        yield pending.popleft().result()


def _split_into_chunks(layout: Layout) -> Iterator[tuple[str, int, int]]:
    """Yield dtype, begin and end of each chunk in order, in bytes after the header; a chunk has one dtype."""
    for dtype, group in groupby(tensor_spans(layout), key=lambda span: layout[span[0]][1]):
        spans = list(group)
        last, step = spans[-1][2], _CHUNK * (np.dtype(dtype).itemsize if is_floating(dtype) else 1)
        for begin in range(spans[0][1], last, step):
            yield dtype, begin, min(begin + step, last)


def _mean_of_chunk(columns: Sequence[np.ndarray], dtype_name: str) -> bytes | memoryview:
    """Return the bytes of the mean of chunks, (B,) uint8 each; those of the first if they are not floating-point."""
    if not is_floating(dtype_name):
        return columns[0].tobytes()
    dtype = np.dtype(dtype_name).newbyteorder("<")
    total = columns[0].view(dtype).astype(np.float64)
    addend = np.empty_like(total)
    for column in columns[1:]:
        np.copyto(addend, column.view(dtype))
        total += addend
    total /= len(columns)
    with np.errstate(over="ignore"):
        mean = total.astype(dtype)
    if not np.isfinite(mean).all():
        raise NotFinite
    return mean.data.cast("B")
