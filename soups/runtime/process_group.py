"""Several processes that train one model together, each on a device of its own: `accelerate launch finetune.py`.

Every process goes through the same steps; the first one alone touches files. Where there is one process, everything
here is what that process has itself.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from soups.core.errors import EnvironmentFailure, UserError
from soups.runtime.devices import device_of_worker

if TYPE_CHECKING:
    import torch

Value = TypeVar("Value")

_LAUNCHED = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
"""Environment variables that torch's launcher, which accelerate calls, gives each process."""
_SHARDED = "ACCELERATE_USE_FSDP"


@dataclass(frozen=True)
class ProcessGroup:
    """This process among those that train one model."""

    rank: int = 0
    size: int = 1
    number_here: int | None = None
    """Among those of this machine, from 0; None where there is one process."""
    device: str = "cpu"
    """On which tensors are exchanged."""
    sharded: bool = False
    """Weights, gradients and the optimiser's state are split between the devices (FSDP), instead of each having all."""

    @property
    def leads(self) -> bool:
        """Whether this is the process that reads the run, writes files and talks."""
        return self.rank == 0

    def share(self, count: int) -> slice:
        """This process's part of `count` things; the parts are of equal size or differ by one."""
        return slice(self.rank, count, self.size)

    def total(self, value: float) -> float:
        """The sum of what each process has; the same number in all."""
        return value if self.size == 1 else float(self._reduced([value], "SUM")[0])

    def any(self, *facts: bool) -> tuple[bool, ...]:
        """For each fact, whether it holds in any of the processes."""
        return (
            facts if self.size == 1 else tuple(number > 0 for number in self._reduced(list(map(float, facts)), "MAX"))
        )

    def broadcast(self, value: Value) -> Value:
        """What the first process has."""
        if self.size == 1:
            return value
        import torch.distributed as dist

        carried = [value]
        dist.broadcast_object_list(carried, device=self._device())
        return carried[0]

    def gather(self, value: Value) -> list[Value]:
        """What each process has, by rank."""
        if self.size == 1:
            return [value]
        import torch.distributed as dist

        found: list[Any] = [None] * self.size
        dist.all_gather_object(found, value)
        return found

    def interleaved(self, part: np.ndarray, count: int) -> np.ndarray:
        """The rows of all processes in their order, where each has those that `share` gives it, and maybe more after.

        Args:
            part: (M, …) of this process.
            count: N, of all.

        Returns:
            (N, …)
        """
        whole = np.empty((count, *part.shape[1:]), part.dtype)
        for rank, rows in enumerate(self.gather(part)):
            target = whole[rank :: self.size]
            target[:] = rows[: len(target)]
        return whole

    def _reduced(self, values: list[float], how: str) -> "torch.Tensor":
        import torch
        import torch.distributed as dist

        carried = torch.tensor(values, dtype=torch.float64, device=self._device())
        dist.all_reduce(carried, getattr(dist.ReduceOp, how))
        return carried.cpu()

    def _device(self) -> "torch.device":
        import torch

        return torch.device(self.device)


ALONE = ProcessGroup()


def launched() -> bool:
    """Whether this process is one of several that a launcher started to train one model."""
    return all(name in os.environ for name in _LAUNCHED) and int(os.environ["WORLD_SIZE"]) > 1


@contextmanager
def join_group(wanted_device: str) -> Iterator[ProcessGroup]:
    """The group of this process for the block; the process is its own where no launcher started several.

    Args:
        wanted_device: as in `runtime.find_device`; accelerators of a machine are dealt out to its processes.

    Raises:
        EnvironmentFailure: another process of the group has ended, or there is no way of talking to it.
    """
    if not launched():
        yield ALONE
        return
    import torch
    import torch.distributed as dist

    # accelerate's own sharding wants the model and all of its optimisers at once; we have an optimiser for each phase.
    sharded = os.environ.pop(_SHARDED, "false").lower() in ("1", "true", "yes")
    number_here = int(os.environ["LOCAL_RANK"])
    device = device_of_worker(wanted_device, number_here)
    if torch.device(device).index is not None:
        torch.accelerator.set_device_index(torch.device(device).index)
    try:
        dist.init_process_group("gloo" if device == "cpu" else None)
    except (RuntimeError, ValueError) as error:
        raise _lost(error) from error
    group = ProcessGroup(dist.get_rank(), dist.get_world_size(), number_here, device, sharded)
    try:
        yield group
        dist.barrier()  # Nobody leaves while another may still ask for something.
    except (KeyboardInterrupt, SystemExit, UserError):
        raise
    except RuntimeError as error:
        # What was wrong is told by the process in which it was.
        if not _is_about_the_others(error):
            raise
        raise _lost(error) from error
    finally:
        with suppress(RuntimeError):
            dist.destroy_process_group()


def _is_about_the_others(error: RuntimeError) -> bool:
    import torch.distributed as dist

    return isinstance(error, dist.DistError) or any(word in str(error).lower() for word in ("gloo", "peer", "nccl"))


def _lost(error: Exception) -> EnvironmentFailure:
    return EnvironmentFailure(
        f"process {os.environ['RANK']} of {os.environ['WORLD_SIZE']}: cannot reach the others",
        found=str(error).strip().splitlines()[0][:200],
        next_step="see what the process says that ended first, and give the same command again: training goes on",
    )
