"""Launchers: run tasks in processes of this machine or on a Ray cluster, as the settings select."""

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager
from functools import partial
from typing import Any, ClassVar, Protocol, TypeVar

from pydantic import BaseModel, ConfigDict

from soups.cli.flags import Flag
from soups.core.errors import UsageError, unknown_name
from soups.core.packages import require_package
from soups.runtime.devices import Runtime
from soups.runtime.workers import Results, WorkerPool, run_all

Item = TypeVar("Item")
Result = TypeVar("Result")


class LaunchSettings(BaseModel):
    """Where the models are trained, evaluated, judged and used for predictions."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    RARE: ClassVar = ("ray_address", "no_shared_storage")

    launcher: str = "local"
    """`local`: processes of this machine; `ray`: a Ray cluster, whose cores and accelerators limit parallel tasks."""
    ray_address: str | None = None
    """Address of the cluster, `auto` or `HOST:PORT`; by default, a cluster is started here for the command."""
    no_shared_storage: Flag = False
    """The machines of the cluster do not share this folder: models are sent to them and results are sent back. The
    images must be at the same absolute path on each machine."""


class WorkerPoolProtocol(Protocol):
    """Workers that keep their imports and models from one task to the next."""

    def submit(self, function: Callable[[Item], Result], item: Item) -> "Future[Any]":
        """Queue a task; the future holds its result, or the exception that it raised as a value."""

    def cancel_all(self) -> None:
        """Cancel all tasks submitted so far."""


class Launcher(Protocol):
    """Runs a function on many items."""

    def run_all(
        self, function: Callable[..., Result], items: Sequence[Item], common: Any = None
    ) -> Results[Item, Result]:
        """Yield each item with its result or the exception that it raised, as they finish; see `workers.run_all`.

        `common`, unless it is None, is the function's argument `common`.
        """

    def worker_pool(self, number: int, prepare: Callable[[], None]) -> AbstractContextManager[WorkerPoolProtocol]:
        """Return workers for a `with` block; see `workers.WorkerPool`."""


class LocalLauncher:
    """Runs tasks in processes of this machine.

    Args:
        jobs: number of processes; 1 runs the tasks in this process.
    """

    def __init__(self, jobs: int) -> None:
        self.jobs = jobs

    def run_all(
        self, function: Callable[..., Result], items: Sequence[Item], common: Any = None
    ) -> Results[Item, Result]:
        """See `Launcher.run_all`."""
        return run_all(function if common is None else partial(function, common=common), items, self.jobs)

    def worker_pool(self, number: int, prepare: Callable[[], None]) -> AbstractContextManager[WorkerPoolProtocol]:
        """Return a pool whose processes are started when they are first needed."""
        return WorkerPool(number, prepare)


def _make_local_launcher(settings: LaunchSettings, runtime: Runtime) -> Launcher:
    return LocalLauncher(runtime.jobs)


def _make_ray_launcher(settings: LaunchSettings, runtime: Runtime) -> Launcher:
    from soups.runtime.ray_launcher import RayLauncher

    return RayLauncher(settings.ray_address, runtime, shared=not settings.no_shared_storage)


LAUNCHERS: dict[str, Callable[[LaunchSettings, Runtime], Launcher]] = {
    "local": _make_local_launcher,
    "ray": _make_ray_launcher,
}


def require_launcher(settings: LaunchSettings) -> None:
    """Raise if the launcher cannot be used here; call this before long work.

    Raises:
        UsageError: the launcher is unknown, or the settings belong to another one.
        EnvironmentFailure: Ray is not installed, or no cluster answers at the address.
    """
    if settings.launcher not in LAUNCHERS:
        raise unknown_name("launcher", settings.launcher, LAUNCHERS)
    if settings.launcher == "ray":
        require_package("ray", "--launcher ray")
        from soups.runtime.ray_launcher import require_cluster

        require_cluster(settings.ray_address)
        return
    for flag in ("ray_address", "no_shared_storage"):
        if getattr(settings, flag):
            raise UsageError(f"--{flag.replace('_', '-')} is for a Ray cluster", next_step="add --launcher ray")


def make_launcher(settings: LaunchSettings, runtime: Runtime) -> Launcher:
    """Return the launcher of the settings.

    Raises:
        UsageError: the launcher is unknown, or the settings belong to another one.
        EnvironmentFailure: Ray is not installed, or no cluster answers at the address.
    """
    require_launcher(settings)
    return LAUNCHERS[settings.launcher](settings, runtime)
