"""Work on a Ray cluster: the lists that worker processes go through here, on whatever machines there are.

Ray runs a task at least once, so whatever is given to it must not mind being done twice: fine-tunes and scores that are
there already are left alone, and files appear whole or not at all.
"""

import logging
import os
import platform
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from soups.core.errors import EnvironmentFailure
from soups.runtime.devices import Runtime
from soups.runtime.workers import SECONDS_TO_SAVE, CancelToken, run_item, start_worker

logger = logging.getLogger(__name__)

Item = TypeVar("Item")
Result = TypeVar("Result")

_TRIES = 5
"""How often a piece of work is begun again whose machine was lost."""
_SECONDS_BETWEEN_LOOKS = 10.0
_PASSED_ON = ("SOUPS_CACHE", "WANDB_MODE", "HF_HUB_OFFLINE", "CUBLAS_WORKSPACE_CONFIG")


@dataclass(frozen=True)
class _Desk:
    """Where a piece of work is done, wherever that is."""

    folder: str | None
    """The driver's working folder; None: machines don't share it."""
    environment: dict[str, str]

    def apply(self) -> None:
        os.environ.update(self.environment)
        if self.folder is None:
            return
        try:
            os.chdir(self.folder)
        except OSError as error:
            raise EnvironmentFailure(
                f"{self.folder}: not there on {platform.node()}",
                expected="a folder that all machines of the cluster share",
                next_step="add --no-shared-storage, or mount it there",
            ) from error


class OnRay:
    """A cluster, connected to while there is work.

    Args:
        address: of the cluster; None: started here, and ended with the work.
        runtime: of each piece of work; its threads are the cores that a piece takes.
        shared: machines see the driver's working folder under the same path.
    """

    def __init__(self, address: str | None, runtime: Runtime, shared: bool = True) -> None:
        self.address, self.runtime = address, runtime
        environment = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
        if "SOUPS_CACHE" in environment:
            environment["SOUPS_CACHE"] = str(Path(environment["SOUPS_CACHE"]).resolve())
        self._desk = _Desk(str(Path.cwd()) if shared else None, environment)

    def run_all(
        self, function: Callable[..., Result], items: Sequence[Item], common: Any = None
    ) -> Iterator[tuple[Item, Result | Exception]]:
        """Each item with its result or the exception that it raised, as they finish; lost work is begun again.

        Args:
            function: of an item; or of an item and what is common to all, where something is.
            items: to work on.
            common: sent once to each machine, through Ray's object store.

        Raises:
            EnvironmentFailure: there is no cluster, or no machine of it is large enough.
        """
        with self._connected() as ray:
            # Without a limit on calls a process keeps its imports, and the device its context, for the next piece.
            task = ray.remote(**self._needs(ray), max_retries=_TRIES, max_calls=0)(_task)
            sent = () if common is None else (ray.put(common),)
            to_come, under_way, ended = deque(items), dict[Any, Item](), 0
            try:
                while to_come or under_way:
                    # Items may be large when they are sent, and machines may come and go.
                    places = ray.cluster_resources().get("CPU", 0) / self.runtime.threads
                    while to_come and len(under_way) < 2 * places + 1:
                        item = to_come.popleft()
                        under_way[task.remote(self._desk, function, item, *sent)] = item
                    done, _ = ray.wait(list(under_way), num_returns=1, timeout=_SECONDS_BETWEEN_LOOKS)
                    for reference in done:
                        ended += 1
                        logger.info("Ray: %d of %d ended", ended, len(items))
                        yield under_way.pop(reference), _result_of(partial(ray.get, reference))
            except (KeyboardInterrupt, SystemExit):
                _ask_to_leave(ray, list(under_way))
                raise

    @contextmanager
    def crew(
        self, number: int, prepare: Callable[..., None] | None = None, arguments: tuple[Any, ...] = ()
    ) -> Iterator["_RayCrew"]:
        """Actors for a `with` block; one whose machine is lost is begun again on another.

        Raises:
            EnvironmentFailure: there is no cluster, or no machine of it is large enough.
        """
        with self._connected() as ray:
            options = {"max_restarts": _TRIES, "max_task_retries": _TRIES, "concurrency_groups": {"word": 1}}
            actor = ray.remote(**self._needs(ray), **options)(_Actor)
            yield _RayCrew([actor.remote(self._desk, each, prepare, arguments) for each in range(number)])

    def _needs(self, ray: Any) -> dict[str, float]:
        """The resources of a piece of work.

        Raises:
            EnvironmentFailure: no machine has them; Ray would wait for one.
        """
        machines = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        cores = max(machine.get("CPU", 0) for machine in machines)
        if cores < self.runtime.threads:
            raise EnvironmentFailure(
                f"no machine of the Ray cluster has {self.runtime.threads} cores, one for each thread of the run",
                found=f"at most {cores:g}",
                next_step="add a larger machine, or start a run with fewer --threads",
            )
        accelerated = self.runtime.wanted_device != "cpu" and any(machine.get("GPU", 0) >= 1 for machine in machines)
        return {"num_cpus": self.runtime.threads, "num_gpus": float(accelerated)}

    @contextmanager
    def _connected(self) -> Iterator[Any]:
        # It would report how it is used over the network.
        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
        # Equal lines of several models are no mistake.
        os.environ.setdefault("RAY_DEDUP_LOGS", "0")
        import ray

        own = not ray.is_initialized()
        if own:
            here: dict[str, Any] = {"include_dashboard": False} if self.address is None else {}
            try:
                ray.init(self.address or "local", logging_level=logging.ERROR, configure_logging=False, **here)
            except (ConnectionError, ValueError, RuntimeError) as error:
                raise EnvironmentFailure(
                    f"--ray-address {self.address}: no Ray cluster answers",
                    found=str(error).strip().splitlines()[0],
                    next_step="start one: ray start --head, or leave --ray-address out",
                ) from error
        try:
            yield ray
        finally:
            if own:
                ray.shutdown()  # Ends what is still under way, too.


def _ask_to_leave(ray: Any, references: list[Any]) -> None:
    """Interrupt pieces of work, which may save the state of theirs first, and wait for them, but not for ever."""
    for reference in references:
        ray.cancel(reference, force=False)
    if references:
        ray.wait(references, num_returns=len(references), timeout=SECONDS_TO_SAVE)


def _task(desk: _Desk, function: Callable[..., Result], item: Item, *common: Any) -> Any:
    # Ray shows a process the devices that are its own, so it has no number among others.
    start_worker(None, CancelToken(), None, ())

    def seated(each: Item) -> Result:
        desk.apply()
        return function(each, *common)

    return run_item(seated, item)


class _Actor:
    """A worker of a crew."""

    def __init__(
        self, desk: _Desk, number: int, prepare: Callable[..., None] | None, arguments: tuple[Any, ...]
    ) -> None:
        self.newest = CancelToken()
        desk.apply()
        start_worker(number, self.newest, prepare, arguments)

    def work(self, function: Callable[[Item], Result], item: Item, order: int) -> Any:
        return run_item(function, item, order)

    def cancel_all(self, newest: int) -> None:
        self.newest.value = newest


class _RayCrew:
    """What a `Crew` is here."""

    def __init__(self, actors: Sequence[Any]) -> None:
        self._actors, self._order = actors, 0
        self._given: list[list[Future[Any]]] = [[] for _ in actors]

    def submit(self, function: Callable[[Item], Result], item: Item) -> "Future[Any]":
        """Hand a piece of work to whoever has the least to do."""
        self._given = [[future for future in each if not future.done()] for each in self._given]
        place = min(range(len(self._actors)), key=lambda each: len(self._given[each]))
        reference, future = self._actors[place].work.remote(function, item, self._order), Future[Any]()
        reference.future().add_done_callback(lambda ended: future.set_result(_result_of(ended.result)))
        self._given[place].append(future)
        return future

    def cancel_all(self) -> None:
        """Nobody wants what was submitted so far: it is not begun any more, and may end early."""
        self._order += 1
        for actor in self._actors:
            actor.cancel_all.options(concurrency_group="word").remote(self._order)


def _result_of(wait: Callable[[], Any]) -> Any:
    """What a piece of work made, or why it could not."""
    import ray

    try:
        return wait()
    except ray.exceptions.RayError as error:
        return EnvironmentFailure(
            "Ray could not finish this piece of work",
            found=str(error).strip().splitlines()[0],
            next_step="it may have run out of memory, or the toolkit is not installed on each machine of the cluster",
        )
