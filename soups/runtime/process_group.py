"""The group of processes that train one model, each on its own device: `accelerate launch finetune.py`.

All processes run the same steps; rank 0 alone reads and writes files. In a group of one, all operations are local.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from soups.core.errors import EnvironmentFailure, UserError
from soups.runtime.devices import device_of_worker

Value = TypeVar("Value")

_LAUNCHER_VARIABLES = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
"""Environment variables that torch's launcher, which accelerate calls, sets in each process."""
_SHARDING_VARIABLE = "ACCELERATE_USE_FSDP"


@dataclass(frozen=True)
class ProcessGroup:
    """This process in the group of processes that train one model."""

    rank: int = 0
    size: int = 1
    local_rank: int | None = None
    """Index among the processes of this machine, from 0; None for a group of one."""
    device: str = "cpu"
    """Device of the tensors of collective operations."""
    sharded: bool = False
    """Weights, gradients and optimiser state are sharded over the devices (FSDP), instead of copied to each."""

    @property
    def is_main(self) -> bool:
        """Return whether this is rank 0, which reads the run, writes files and logs."""
        return self.rank == 0

    def shard(self, count: int) -> slice:
        """Return the slice of `count` items for this process; the sizes of all shards differ by at most one."""
        return slice(self.rank, count, self.size)

    def sum(self, value: float) -> float:
        """Return the sum of the values of all processes; the same number in each."""
        return self._all_reduce([value], "SUM")[0]

    def any(self, *flags: bool) -> tuple[bool, ...]:
        """Return for each flag whether it is true in any process."""
        return tuple(number > 0 for number in self._all_reduce(list(map(float, flags)), "MAX"))

    def broadcast(self, value: Value) -> Value:
        """Return the value of rank 0."""
        if self.size == 1:
            return value
        import torch
        import torch.distributed as dist

        objects = [value]
        dist.broadcast_object_list(objects, device=torch.device(self.device))
        return objects[0]

    def gather(self, value: Value) -> list[Value]:
        """Return the values of all processes, by rank."""
        if self.size == 1:
            return [value]
        import torch.distributed as dist

        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value)
        return values

    def gather_rows(self, part: np.ndarray, count: int) -> np.ndarray:
        """Return the rows of all processes in their original order.

        Args:
            part: (M, …), the rows of this process's `shard`; further rows are ignored.
            count: N, the number of all rows.

        Returns:
            (N, …)
        """
        whole = np.empty((count, *part.shape[1:]), part.dtype)
        for rank, rows in enumerate(self.gather(part)):
            target = whole[rank :: self.size]
            target[:] = rows[: len(target)]
        return whole

    def _all_reduce(self, values: list[float], operation: str) -> list[float]:
        if self.size == 1:
            return values
        import torch
        import torch.distributed as dist

        tensor = torch.tensor(values, dtype=torch.float64, device=self.device)
        dist.all_reduce(tensor, getattr(dist.ReduceOp, operation))
        return tensor.tolist()


SINGLE_PROCESS = ProcessGroup()


@contextmanager
def join_group(requested_device: str) -> Iterator[ProcessGroup]:
    """Yield the group of this process; a group of one unless a launcher started several processes.

    Args:
        requested_device: see `devices.select_device`; a machine's accelerators are assigned to its processes.

    Raises:
        EnvironmentFailure: another process of the group has ended, or cannot be reached.
    """
    if not all(name in os.environ for name in _LAUNCHER_VARIABLES) or int(os.environ["WORLD_SIZE"]) < 2:
        yield SINGLE_PROCESS
        return
    import torch
    import torch.distributed as dist

    # accelerate's own sharding needs the model with all its optimisers at once, but each phase has its own optimiser.
    sharded = os.environ.pop(_SHARDING_VARIABLE, "false").lower() in ("1", "true", "yes")
    local_rank = int(os.environ["LOCAL_RANK"])
    device = device_of_worker(requested_device, local_rank)
    if torch.device(device).index is not None:
        torch.accelerator.set_device_index(torch.device(device).index)
    try:
        dist.init_process_group("gloo" if device == "cpu" else None)
    except (RuntimeError, ValueError) as error:
        raise _group_error(error) from error
    group = ProcessGroup(dist.get_rank(), dist.get_world_size(), local_rank, device, sharded)
    try:
        yield group
        dist.barrier()  # A rank that exits earlier would abort operations of the others.
    except (KeyboardInterrupt, SystemExit, UserError):
        raise
    except RuntimeError as error:
        communication = any(word in str(error).lower() for word in ("gloo", "peer", "nccl"))
        if communication or isinstance(error, dist.DistError):  # The process that failed reports the cause.
            raise _group_error(error) from error
        raise
    finally:
        with suppress(RuntimeError):
            dist.destroy_process_group()


def _group_error(error: Exception) -> EnvironmentFailure:
    return EnvironmentFailure(
        f"process {os.environ['RANK']} of {os.environ['WORLD_SIZE']}: cannot reach the others",
        found=str(error).strip().splitlines()[0][:200],
        next_step="read the error of the process that ended first, then run the same command again: training resumes",
    )
