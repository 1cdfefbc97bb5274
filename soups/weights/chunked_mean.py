"""Weighted means of many tensors in float64, piece by piece on all cores: the sums stay in the processor's cache."""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

_PIECE = 1 << 18
"""Elements summed at a time: 2 MiB in float64."""

_LANES = 8
"""Threads at most: a few keep the memory busy, and each has room of its own for two pieces."""


@dataclass(frozen=True)
class _Job:
    """The mean of tensors of one shape, written to `out` in its dtype."""

    out: "torch.Tensor"
    parts: "Sequence[torch.Tensor]"


def chunked_means(
    columns: "Mapping[str, Sequence[torch.Tensor]]", shares: Sequence[float], divisor: float
) -> "dict[str, torch.Tensor]":
    """The sums of shares times tensors over a divisor, each rounded once.

    Each byte of the tensors is read once. Beside the result, the memory is some MiB for each thread; tensors that are
    not contiguous take two of their size in float64.

    Args:
        columns: name → floating-point tensors of one shape and dtype, as many as there are shares.
        shares: what to multiply each with; the order of summing is theirs.
        divisor: not zero.
    """
    import torch

    result = {key: torch.empty(column[0].shape, dtype=column[0].dtype) for key, column in columns.items()}
    # Whoever is free takes the next one; asking a list's iterator is safe from several threads.
    jobs = iter([job for key, column in columns.items() for job in _jobs(result[key], column)])

    def work(_: int) -> None:
        room = torch.empty(2, _PIECE, dtype=torch.float64)
        for job in jobs:
            _write_mean(job, shares, divisor, room)

    lanes = min(_LANES, torch.get_num_threads())
    with _one_core_each(), ThreadPoolExecutor(lanes) as pool:
        list(pool.map(work, range(lanes)))
    return result


def _jobs(out: "torch.Tensor", column: "Sequence[torch.Tensor]") -> "Iterator[_Job]":
    if not all(part.is_contiguous() for part in column):
        yield _Job(out, column)
        return
    flat, parts = out.view(-1), [part.detach().view(-1) for part in column]
    for begin in range(0, len(flat), _PIECE):
        piece = slice(begin, begin + _PIECE)
        yield _Job(flat[piece], [part[piece] for part in parts])


def _write_mean(job: _Job, shares: Sequence[float], divisor: float, room: "torch.Tensor") -> None:
    size = job.out.numel()
    if size > room.shape[1]:
        room = room.new_empty(2, size)
    total, addend = (row[:size].view(job.out.shape) for row in room)
    total.copy_(job.parts[0]).mul_(shares[0])
    for part, share in zip(job.parts[1:], shares[1:], strict=True):
        total.add_(addend.copy_(part), alpha=share)
    job.out.copy_(total.div_(divisor))


@contextmanager
def _one_core_each() -> Iterator[None]:
    """Let threads that begin now compute on one core each.

    torch's own threads wait for each other after every operation, tens of thousands of times here: where another
    process holds a core, that has taken twenty times as long.
    """
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
