"""Weighted means of many tensors in float64, chunk by chunk on several cores; a chunk's sum fits in the CPU cache."""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

_CHUNK = 1 << 18
"""Elements summed at a time: 2 MiB in float64."""

_MAX_THREADS = 8
"""A few threads saturate the memory bandwidth, and each thread has a buffer of two chunks."""


def chunked_means(
    columns: "Mapping[str, Sequence[torch.Tensor]]", weights: Sequence[float], divisor: float
) -> "dict[str, torch.Tensor]":
    """Return Σ weight · tensor / divisor for each name, summed in float64 and rounded once.

    Each byte of the tensors is read once. Beside the result, each thread takes a few MiB of memory; tensors that are
    not contiguous take two copies of themselves in float64.

    Args:
        columns: name → floating-point tensors of one shape and dtype, one for each weight.
        weights: a factor for each tensor; the sum is in this order.
        divisor: not zero.
    """
    import torch

    result = {key: torch.empty(column[0].shape, dtype=column[0].dtype) for key, column in columns.items()}
    # The threads share the iterator: `next` of a list's iterator is safe from several threads.
    tasks = iter([task for key, column in columns.items() for task in _split_into_chunks(result[key], column)])

    def work(_: int) -> None:
        buffer = torch.empty(2, _CHUNK, dtype=torch.float64)
        for out, tensors in tasks:
            write_mean_of_chunk(out, tensors, weights, divisor, buffer)

    before = torch.get_num_threads()
    threads = min(_MAX_THREADS, before)
    # torch's own threads synchronise after every operation, tens of thousands of times here. When another process
    # occupies a core, this made the mean twenty times slower. So each of our threads computes on one core.
    torch.set_num_threads(1)
    try:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(work, range(threads)))
    finally:
        torch.set_num_threads(before)
    return result


def _split_into_chunks(
    out: "torch.Tensor", column: "Sequence[torch.Tensor]"
) -> "Iterator[tuple[torch.Tensor, Sequence[torch.Tensor]]]":
    """Yield chunks of a result with the same chunk of its tensors; the whole tensors if one is not contiguous."""
    if not all(tensor.is_contiguous() for tensor in column):
        yield out, column
        return
    flat, tensors = out.view(-1), [tensor.detach().view(-1) for tensor in column]
    for begin in range(0, len(flat), _CHUNK):
        chunk = slice(begin, begin + _CHUNK)
        yield flat[chunk], [tensor[chunk] for tensor in tensors]


def write_mean_of_chunk(
    out: "torch.Tensor",
    tensors: "Sequence[torch.Tensor]",
    weights: Sequence[float],
    divisor: float,
    buffer: "torch.Tensor",
) -> None:
    """Write Σ weight · tensor / divisor to `out`, summed in float64 in the order given and rounded once.

    Args:
        out: the result, in the dtype of the tensors.
        tensors: as many as weights, of the shape of `out`.
        weights: a factor for each tensor.
        divisor: not zero; 1.0 changes no bit of the sum.
        buffer: (2, N) float64, overwritten; a new one is allocated for an `out` of more than N elements.
    """
    size = out.numel()
    if size > buffer.shape[1]:
        buffer = buffer.new_empty(2, size)
    total, addend = (row[:size].view(out.shape) for row in buffer)
    total.copy_(tensors[0]).mul_(weights[0])
    for tensor, weight in zip(tensors[1:], weights[1:], strict=True):
        total.add_(addend.copy_(tensor), alpha=weight)
    out.copy_(total.div_(divisor))
