"""Devices, precision, threads and seeds: the only place that names an accelerator."""

import os
import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from soups.core.errors import EnvironmentFailure, UsageError
from soups.core.processors import available_cores

if TYPE_CHECKING:
    import torch
    from accelerate import Accelerator

Precision = Literal["fp32", "bf16", "fp16"]


class RuntimeSettings(BaseModel):
    """Where and how the work runs."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    device: str = "auto"
    """`auto` takes an accelerator where there is one; else `cpu`, `cuda`, `cuda:1`, `mps`, …"""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """`auto` takes bf16 where the processor computes in it; resolved once per run and recorded."""
    threads: int | None = Field(default=None, gt=0)
    """CPU threads of each process (default: the cores divided by `--jobs`, 1 with `--jobs auto` on the CPU); resolved
    once per run and recorded."""
    workers: int = Field(default=0, ge=0)
    """Processes that prepare images for each training process; they do not change the result."""
    jobs: Annotated[int, Field(gt=0)] | Literal["auto"] = 1
    """Models trained or evaluated side by side, each in a process of its own; `auto`: one on each accelerator, or as
    many as the cores have room for at the run's threads."""


class Runtime(BaseModel):
    """Resolved settings. The device is looked for when it is first needed, because that loads torch."""

    model_config = ConfigDict(frozen=True)

    wanted_device: str = "cpu"
    precision: Precision
    threads: int
    workers: int = 0
    wanted_jobs: int | Literal["auto"] = 1
    deterministic: bool = False
    """Whether an accelerator may only use algorithms that give the same bits each time."""

    @property
    def jobs(self) -> int:
        """How many models at once.

        Raises:
            EnvironmentFailure: the device does not exist here.
        """
        if self.wanted_jobs != "auto":
            return self.wanted_jobs
        places = _accelerators(self.wanted_device)
        return places or max(1, available_cores() // self.threads)

    def of_worker(self, number: int | None) -> "Runtime":
        """As one of several worker processes has it: with a device of its own, see `device_of_worker`; None: itself."""
        if number is None:
            return self
        return self.model_copy(update={"wanted_device": device_of_worker(self.wanted_device, number)})

    @property
    def device(self) -> str:
        """The device's name, as torch has it.

        Raises:
            EnvironmentFailure: it does not exist here.
        """
        return select_device(self.wanted_device)


def resolve(settings: RuntimeSettings, precision: Precision | None = None, threads: int | None = None) -> Runtime:
    """Decide precision and threads; those that the run recorded win, where it did.

    Raises:
        EnvironmentFailure: the precision depends on a device that does not exist here.
    """
    if precision is None:
        wanted = settings.precision
        precision = _fastest_precision(select_device(settings.device)) if wanted == "auto" else wanted
    return Runtime(
        wanted_device=settings.device,
        precision=precision,
        threads=threads or settings.threads or _own_threads(settings),
        workers=settings.workers,
        wanted_jobs=settings.jobs,
    )


def _own_threads(settings: RuntimeSettings) -> int:
    """Threads of each process, where nobody says how many."""
    if settings.jobs == "auto":
        # On the CPU, many processes of one thread finish a pool sooner than few of many.
        return max(1, available_cores() // (_accelerators(settings.device) or available_cores()))
    return max(1, available_cores() // settings.jobs)


@cache
def select_device(name: str) -> str:
    """The device that a name means; `auto` is an accelerator where there is one, else the CPU.

    Raises:
        EnvironmentFailure: it does not exist here.
    """
    if name == "cpu":
        return name
    import torch

    if name == "auto":
        accelerator = torch.accelerator.current_accelerator(check_available=True)
        return accelerator.type if accelerator is not None else "cpu"
    try:
        torch.empty(1, device=name)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise EnvironmentFailure(
            f"--device {name}: not usable here",
            found=str(error).strip().splitlines()[0],
            next_step="leave --device out, or give cpu",
        ) from error
    return name


def _accelerators(name: str) -> int:
    """How many accelerators a device's name stands for; 0: the CPU.

    Raises:
        EnvironmentFailure: the device does not exist here.
    """
    device = select_device(name)
    if device == "cpu":
        return 0
    if ":" in device:
        return 1
    import torch

    return max(1, torch.accelerator.device_count())


def device_of_worker(name: str, number: int) -> str:
    """The device of one of several worker processes: accelerators are dealt out in turn, unless the name says which.

    Args:
        name: as in `select_device`.
        number: of the worker, from 0.

    Raises:
        EnvironmentFailure: the device does not exist here.
    """
    device, count = select_device(name), _accelerators(name)
    return f"{device}:{number % count}" if count > 1 else device


def _fastest_precision(device: str) -> Precision:
    import torch

    if device.startswith("cuda"):
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    if device == "cpu":
        return "bf16" if _processor_computes_bf16() else "fp32"
    return "fp32"


def _processor_computes_bf16() -> bool:
    import torch

    # Without these instructions bf16 is emulated and slower than fp32.
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def autocast(runtime: Runtime) -> "torch.autocast":
    """The context in which a forward pass runs at the runtime's precision."""
    import torch

    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}[runtime.precision]
    return torch.autocast(runtime.device.split(":")[0], dtype=dtype, enabled=runtime.precision != "fp32")


def make_accelerator(runtime: Runtime) -> "Accelerator":
    """Hugging Face's accelerator for training at the runtime's device and precision."""
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState

    # It remembers the first precision for the life of the process; a pool's models may follow one another here.
    AcceleratorState._reset_state(reset_partial_state=True)
    precision = {"fp32": "no"}.get(runtime.precision, runtime.precision)
    # Placement stays ours, so that the second accelerator can be asked for.
    return Accelerator(cpu=runtime.device == "cpu", mixed_precision=precision, device_placement=False)


def is_out_of_memory(error: Exception) -> bool:
    """Whether a device or the processor had no memory for something; less at once may do."""
    import torch
    from accelerate.utils.memory import should_reduce_batch_size

    return isinstance(error, torch.OutOfMemoryError | MemoryError) or should_reduce_batch_size(error)


def free_memory() -> None:
    """Give back what the device holds in reserve."""
    from accelerate.utils.memory import clear_device_cache

    clear_device_cache(garbage_collection=True)


def prefer_determinism() -> None:
    """To be called before an accelerator is used: cuBLAS looks once how much room its repeatable algorithms have."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")


@contextmanager
def deterministic_algorithms(runtime: Runtime) -> Iterator[None]:
    """Within the block, an accelerator uses only algorithms that give the same bits each time, where that is wanted.

    The processor's give them anyway, for one number of threads, and are left alone.

    Raises:
        UsageError: an operation has no such algorithm.
    """
    if not runtime.deterministic or runtime.device == "cpu":
        yield
        return
    import torch

    cudnn, before = torch.backends.cudnn, torch.are_deterministic_algorithms_enabled()
    settings = cudnn.benchmark, cudnn.deterministic
    prefer_determinism()
    torch.use_deterministic_algorithms(True)
    cudnn.benchmark, cudnn.deterministic = False, True
    try:
        yield
    except RuntimeError as error:
        if "deterministic" not in str(error):
            raise
        raise UsageError(
            "--deterministic: the network needs an operation that has no repeatable algorithm",
            found=str(error).splitlines()[0],
            next_step="leave --deterministic out, or train on the CPU",
        ) from error
    finally:
        torch.use_deterministic_algorithms(before)
        cudnn.benchmark, cudnn.deterministic = settings


def limit_threads(threads: int) -> None:
    """Use so many CPU threads in this process from now on: the number shows in the last bits of the weights."""
    import torch

    torch.set_num_threads(threads)


def peak_memory(device: str) -> int | None:
    """The most bytes that this process has held at once: on an accelerator its tensors there, else all of its own.

    None where the system does not tell.
    """
    if device != "cpu":
        import torch

        return int(torch.accelerator.max_memory_allocated(device))
    try:
        # Linux's `getrusage` counts also what the parent held when it started this process; this line does not.
        status = Path("/proc/self/status").read_text(encoding="utf-8")
        return 1024 * next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:"))
    except (OSError, StopIteration):
        pass
    try:
        import resource
    except ImportError:  # Windows has none.
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


def cache_dir() -> Path:
    """Where what can be made again is kept: `SOUPS_CACHE`, else `XDG_CACHE_HOME/soups`, else `~/.cache/soups`."""
    if explicit := os.environ.get("SOUPS_CACHE"):
        return Path(explicit)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "soups"


def derived_seed(*entropy: int) -> int:
    """A 63-bit seed from a path of whole numbers, such as (random seed, model, epoch, sample)."""
    # NumPy pads with zeros, so that (1,) and (1, 0) would be one seed: their length tells them apart.
    return int(np.random.SeedSequence([*entropy, len(entropy)]).generate_state(1, np.uint64)[0] >> np.uint64(1))


@contextmanager
def seeded_globals(seed: int) -> Iterator[None]:
    """Seed Python's and NumPy's global generators within the block, for libraries that offer no generator argument."""
    python_state, numpy_state = random.getstate(), np.random.get_state()  # noqa: NPY002
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002
    try:
        yield
    finally:
        random.setstate(python_state)
        np.random.set_state(numpy_state)  # noqa: NPY002
