"""Devices, precision, threads, seeds and the cache folder; the only module that names an accelerator."""

import os
import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from soups.core.errors import EnvironmentFailure, UsageError
from soups.core.processors import available_cores

if TYPE_CHECKING:
    import torch
    from accelerate import Accelerator

Precision = Literal["fp32", "bf16", "fp16"]


class RuntimeSettings(BaseModel):
    """Device, precision, threads and processes of a command."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    RARE: ClassVar = ("workers",)

    device: str = "auto"
    """`cpu`, `cuda`, `cuda:1`, `mps`, …; `auto` uses an accelerator if there is one, else the CPU."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """`auto` uses bf16 if the processor supports it in hardware; resolved once per run and recorded."""
    threads: int | None = Field(default=None, gt=0)
    """CPU threads of each process (default: the cores divided by `--jobs`, 1 with `--jobs auto` on the CPU); resolved
    once per run and recorded."""
    workers: int = Field(default=0, ge=0)
    """Processes that prepare images for each training process; they do not change the result."""
    jobs: Annotated[int, Field(gt=0)] | Literal["auto"] = 1
    """Models trained or evaluated in parallel, each in its own process; `auto`: one on each accelerator, or on the CPU
    the number of cores divided by the run's threads."""


class Runtime(BaseModel):
    """Resolved settings. The device is selected when it is first needed, because that loads torch."""

    model_config = ConfigDict(frozen=True)

    requested_device: str = "cpu"
    precision: Precision
    threads: int
    workers: int = 0
    requested_jobs: int | Literal["auto"] = 1
    deterministic: bool = False
    """Whether an accelerator may use only deterministic algorithms."""

    @property
    def jobs(self) -> int:
        """Return the number of models processed in parallel.

        Raises:
            EnvironmentFailure: the device does not exist here.
        """
        if self.requested_jobs != "auto":
            return self.requested_jobs
        return _count_accelerators(self.requested_device) or max(1, available_cores() // self.threads)

    def for_worker(self, number: int | None) -> "Runtime":
        """Return the runtime of worker process `number` with its own device, see `device_of_worker`.

        None, for a process that is not a worker, returns the runtime unchanged.
        """
        if number is None:
            return self
        return self.model_copy(update={"requested_device": device_of_worker(self.requested_device, number)})

    @property
    def device(self) -> str:
        """Return torch's name of the device.

        Raises:
            EnvironmentFailure: the device does not exist here.
        """
        return select_device(self.requested_device)


def resolve(settings: RuntimeSettings, precision: Precision | None = None, threads: int | None = None) -> Runtime:
    """Return the runtime of settings.

    Args:
        settings: the user's settings.
        precision: the precision that the run recorded, which overrides the settings; None for a new run.
        threads: the number of threads that the run recorded, likewise.

    Raises:
        EnvironmentFailure: `auto` needs a device that does not exist here.
    """
    if precision is None:
        requested = settings.precision
        precision = _fastest_precision(select_device(settings.device)) if requested == "auto" else requested
    return Runtime(
        requested_device=settings.device,
        precision=precision,
        threads=threads or settings.threads or _default_threads(settings),
        workers=settings.workers,
        requested_jobs=settings.jobs,
    )


def _default_threads(settings: RuntimeSettings) -> int:
    if settings.jobs == "auto":
        # On the CPU, many processes of one thread finish a pool sooner than few processes of many threads.
        return max(1, available_cores() // (_count_accelerators(settings.device) or available_cores()))
    return max(1, available_cores() // settings.jobs)


@cache
def select_device(name: str) -> str:
    """Return the device of a name; `auto` is an accelerator if there is one, else the CPU.

    Raises:
        EnvironmentFailure: the device does not exist here.
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
            next_step="omit --device, or use --device cpu",
        ) from error
    return name


def _count_accelerators(name: str) -> int:
    """Return the number of accelerators that a device's name refers to; 0 for the CPU.

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
    """Return the device of a worker process: accelerators are assigned round-robin, unless the name has an index.

    Args:
        name: a device's name, see `select_device`.
        number: index of the worker, from 0.

    Raises:
        EnvironmentFailure: the device does not exist here.
    """
    device, count = select_device(name), _count_accelerators(name)
    return f"{device}:{number % count}" if count > 1 else device


def _fastest_precision(device: str) -> Precision:
    import torch

    if device.startswith("cuda"):
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    if device == "cpu":
        # Without these instructions bf16 is emulated and slower than fp32.
        return "bf16" if torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported() else "fp32"
    return "fp32"


def autocast(runtime: Runtime) -> "torch.autocast":
    """Return the context for forward passes at the runtime's precision."""
    import torch

    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}[runtime.precision]
    return torch.autocast(runtime.device.split(":")[0], dtype=dtype, enabled=runtime.precision != "fp32")


def make_accelerator(runtime: Runtime) -> "Accelerator":
    """Return Hugging Face's `Accelerator` for training on the runtime's device at its precision."""
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState

    # The state is global and stores the first precision, but a process may train several models in sequence.
    AcceleratorState._reset_state(reset_partial_state=True)
    precision = {"fp32": "no"}.get(runtime.precision, runtime.precision)
    # accelerate would place everything on the first accelerator.
    return Accelerator(cpu=runtime.device == "cpu", mixed_precision=precision, device_placement=False)


def is_out_of_memory(error: Exception) -> bool:
    """Return whether an error means that a device or the CPU ran out of memory."""
    import torch
    from accelerate.utils.memory import should_reduce_batch_size

    return isinstance(error, torch.OutOfMemoryError | MemoryError) or should_reduce_batch_size(error)


def free_memory() -> None:
    """Release the memory that torch caches on the device."""
    from accelerate.utils.memory import clear_device_cache

    clear_device_cache(garbage_collection=True)


def prefer_determinism() -> None:
    """Set the workspace of cuBLAS's deterministic algorithms; call this before an accelerator is first used."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")


@contextmanager
def deterministic_algorithms(runtime: Runtime) -> Iterator[None]:
    """Use only deterministic algorithms on an accelerator in the block, if the runtime requires it.

    The CPU's algorithms are not changed: they are deterministic for a given number of threads.

    Raises:
        UsageError: an operation has no deterministic algorithm.
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
            "--deterministic: the network needs an operation that has no deterministic algorithm",
            found=str(error).splitlines()[0],
            next_step="omit --deterministic, or add --device cpu",
        ) from error
    finally:
        torch.use_deterministic_algorithms(before)
        cudnn.benchmark, cudnn.deterministic = settings


def limit_threads(threads: int) -> None:
    """Set the number of CPU threads of this process; the number changes the last bits of trained weights."""
    import torch

    torch.set_num_threads(threads)


def peak_memory(device: str) -> int | None:
    """Return the peak memory of this process in bytes: of its tensors on an accelerator, else of the whole process.

    None if the operating system does not report it.
    """
    if device != "cpu":
        import torch

        return int(torch.accelerator.max_memory_allocated(device))
    with suppress(OSError, StopIteration):
        # On Linux, `getrusage` includes the parent's memory at the start of this process; VmHWM does not.
        status = Path("/proc/self/status").read_text(encoding="utf-8")
        return 1024 * next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:"))
    try:
        import resource
    except ImportError:  # Windows lacks this module.
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


def cache_dir() -> Path:
    """Return the folder of caches: `SOUPS_CACHE`, else `XDG_CACHE_HOME/soups`, else `~/.cache/soups`."""
    if explicit := os.environ.get("SOUPS_CACHE"):
        return Path(explicit)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "soups"


def derived_seed(*entropy: int) -> int:
    """Return a 63-bit seed from a sequence of integers, such as (random seed, model, epoch, sample)."""
    # NumPy pads with zeros, so (1,) and (1, 0) would give one seed without the length.
    return int(np.random.SeedSequence([*entropy, len(entropy)]).generate_state(1, np.uint64)[0] >> np.uint64(1))


@contextmanager
def seeded_globals(seed: int) -> Iterator[None]:
    """Seed Python's and NumPy's global generators in the block, for libraries without a generator argument."""
    python_state, numpy_state = random.getstate(), np.random.get_state()  # noqa: NPY002
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002
    try:
        yield
    finally:
        random.setstate(python_state)
        np.random.set_state(numpy_state)  # noqa: NPY002
