"""Where pieces of work are done: in processes here, or on a cluster."""

import importlib.util
import socket
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager
from functools import partial
from typing import Any, Protocol, TypeVar

from pydantic import BaseModel, ConfigDict

from soups.cli.flags import Flag
from soups.core.errors import EnvironmentFailure, UsageError, unknown_name
from soups.runtime.devices import Runtime
from soups.runtime.workers import WorkerPool, run_all

Item = TypeVar("Item")
Result = TypeVar("Result")

_SECONDS_TO_ANSWER = 10.0
"""For a cluster that is asked whether it is there."""


class LaunchSettings(BaseModel):
    """Where models are trained, evaluated and judged, and where they predict."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    launcher: str = "local"
    """`local`: in processes here; `ray`: on a Ray cluster, whose cores and accelerators decide how many at once."""
    ray_address: str | None = None
    """The cluster, `auto` or `HOST:PORT`; by default one that is started here for the command."""
    no_shared_storage: Flag = False
    """Of a cluster whose machines don't see this folder: what a model needs is sent along, what it made comes back; the
    images are at the same (absolute) path everywhere."""


class WorkerPoolProtocol(Protocol):
    """Workers that keep what they have loaded from one piece of work to the next."""

    def submit(self, function: Callable[[Item], Result], item: Item) -> "Future[Any]":
        """The result to come, or the exception that it will have raised."""

    def cancel_all(self) -> None:
        """Nobody wants what was submitted so far."""


class Launcher(Protocol):
    """A way of working through a list."""

    def run_all(
        self, function: Callable[..., Result], items: Sequence[Item], common: Any = None
    ) -> Iterator[tuple[Item, Result | Exception]]:
        """Each item with its result or the exception that it raised, as they finish; see `launch.run_all`.

        Where `common` is given, it is the function's second argument.
        """

    def crew(
        self, number: int, prepare: Callable[..., None] | None = None, arguments: tuple[Any, ...] = ()
    ) -> AbstractContextManager[WorkerPoolProtocol]:
        """Workers for a `with` block; see `launch.WorkerPool`."""


class Local:
    """Processes of this machine; a crew that is there already is used instead of new ones."""

    def __init__(self, jobs: int, crew: WorkerPool | None = None) -> None:
        self.jobs, self._crew = jobs, crew

    def run_all(
        self, function: Callable[..., Result], items: Sequence[Item], common: Any = None
    ) -> Iterator[tuple[Item, Result | Exception]]:
        """In this process if it is one job."""
        return run_all(function if common is None else partial(function, common=common), items, self.jobs, self._crew)

    def crew(
        self, number: int, prepare: Callable[..., None] | None = None, arguments: tuple[Any, ...] = ()
    ) -> AbstractContextManager[WorkerPoolProtocol]:
        """Processes spawned as work comes in."""
        return WorkerPool(number, prepare, arguments)


def _local(settings: LaunchSettings, runtime: Runtime) -> Launcher:
    return Local(runtime.jobs)


def _ray(settings: LaunchSettings, runtime: Runtime) -> Launcher:
    from soups.runtime.ray_launcher import OnRay

    return OnRay(settings.ray_address, runtime, shared=not settings.no_shared_storage)


LAUNCHERS: dict[str, Callable[[LaunchSettings, Runtime], Launcher]] = {"local": _local, "ray": _ray}


def require_launcher(settings: LaunchSettings) -> None:
    """Raise, before anything is done, where the settings name no launcher that there is here.

    Raises:
        UsageError: an unknown launcher, or settings of another one.
        EnvironmentFailure: Ray is not installed, or nothing answers at the address.
    """
    if settings.launcher not in LAUNCHERS:
        raise unknown_name("launcher", settings.launcher, LAUNCHERS)
    if settings.launcher == "ray":
        if importlib.util.find_spec("ray") is None:
            raise EnvironmentFailure("--launcher ray: Ray is not installed", next_step="pip install ray")
        if settings.ray_address not in (None, "auto", "local"):
            _require_answer(str(settings.ray_address))
        return
    for flag in ("ray_address", "no_shared_storage"):
        if getattr(settings, flag):
            raise UsageError(f"--{flag.replace('_', '-')} is for a Ray cluster", next_step="add --launcher ray")


def _require_answer(address: str) -> None:
    """Raise where nothing listens at a cluster's address: Ray itself would try for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit() or int(port) > 65535:
        raise UsageError(f"--ray-address {address}", expected="auto, HOST:PORT or ray://HOST:PORT")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=_SECONDS_TO_ANSWER):
            pass
    except OSError as error:
        raise EnvironmentFailure(
            f"--ray-address {address}: no Ray cluster answers",
            found=str(error),
            next_step="start one: ray start --head, or leave --ray-address out",
        ) from error


def make_launcher(settings: LaunchSettings, runtime: Runtime) -> Launcher:
    """Where the settings want the work done.

    Raises:
        UsageError: an unknown launcher, or settings of another one.
        EnvironmentFailure: Ray is not installed.
    """
    require_launcher(settings)
    return LAUNCHERS[settings.launcher](settings, runtime)
