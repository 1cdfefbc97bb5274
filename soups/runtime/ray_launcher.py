"""The launcher of a Ray cluster: runs tasks and worker pools on its machines.

Ray runs a task at least once, so tasks must be idempotent: fine-tunes and scores that exist are not computed again, and
files are written atomically.
"""

import logging
import os
import platform
import socket
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from soups.core.errors import EnvironmentFailure, UsageError
from soups.runtime.devices import Runtime
from soups.runtime.workers import SECONDS_TO_SAVE, CancelToken, Results, run_item, start_worker

logger = logging.getLogger(__name__)

Item = TypeVar("Item")
Result = TypeVar("Result")

_NO_CLUSTER = "--ray-address {}: no Ray cluster answers"
_NEXT_STEP = "start one: ray start --head, or omit --ray-address"
_CONNECTION_TIMEOUT = 10.0
"""Seconds to wait for a connection to a cluster."""
_MAX_RETRIES = 5
"""How often a task is repeated after its machine was lost."""
_SECONDS_BETWEEN_CHECKS = 10.0
_FORWARDED_VARIABLES = ("SOUPS_CACHE", "WANDB_MODE", "HF_HUB_OFFLINE", "CUBLAS_WORKSPACE_CONFIG")


def _set_environment(folder: str | None, environment: dict[str, str]) -> None:
    """Set environment variables and change to the driver's folder, on the machine of a task.

    Args:
        folder: the driver's working folder; None if the machines do not share it.
        environment: variables to set.

    Raises:
        EnvironmentFailure: this machine does not have the folder.
    """
    os.environ.update(environment)
    try:
        if folder is not None:
            os.chdir(folder)
    except OSError as error:
        raise EnvironmentFailure(
            f"{folder}: does not exist on {platform.node()}",
            expected="a folder that all machines of the cluster share",
            next_step="add --no-shared-storage, or mount the folder on that machine",
        ) from error


class RayLauncher:
    """Runs tasks on a cluster, and is connected to it during the work.

    Args:
        address: address of the cluster; None starts a cluster here and stops it after the work.
        runtime: runtime of each task; a task occupies as many cores as it has threads.
        shared: the machines have the driver's working folder at the same path.
    """

    def __init__(self, address: str | None, runtime: Runtime, shared: bool = True) -> None:
        self.address, self.runtime = address, runtime
        environment = {name: os.environ[name] for name in _FORWARDED_VARIABLES if name in os.environ}
        if "SOUPS_CACHE" in environment:
            environment["SOUPS_CACHE"] = str(Path(environment["SOUPS_CACHE"]).resolve())
        self._set_up = partial(_set_environment, str(Path.cwd()) if shared else None, environment)

    def run_all(
        self, function: Callable[..., Result], items: Sequence[Item], common: Any = None
    ) -> Results[Item, Result]:
        """Yield each item with its result or the exception that it raised, as they finish; lost tasks are repeated.

        A request to stop interrupts the tasks and waits at most `SECONDS_TO_SAVE` until they have saved their state.

        Args:
            function: called with an item, and with `common` unless that is None.
            items: the items.
            common: sent once to each machine, through Ray's object store.

        Raises:
            EnvironmentFailure: there is no cluster, or no machine of it has enough cores.
        """
        with self._connect() as ray:
            # Without a limit on calls, a process keeps its imports and its device context for the next task.
            task = ray.remote(**self._task_resources(ray), max_retries=_MAX_RETRIES, max_calls=0)(_run_task)
            shared_arguments = () if common is None else (ray.put(common),)
            waiting, running, finished = deque(items), dict[Any, Item](), 0
            try:
                while waiting or running:
                    # Not all are submitted at once: items may be large, and machines may join and leave.
                    parallel_tasks = ray.cluster_resources().get("CPU", 0) / self.runtime.threads
                    while waiting and len(running) < 2 * parallel_tasks + 1:
                        item = waiting.popleft()
                        running[task.remote(self._set_up, function, item, *shared_arguments)] = item
                    done, _ = ray.wait(list(running), num_returns=1, timeout=_SECONDS_BETWEEN_CHECKS)
                    for reference in done:
                        finished += 1
                        logger.info("Ray: %d of %d tasks finished", finished, len(items))
                        yield running.pop(reference), _get_result(partial(ray.get, reference))
            except (KeyboardInterrupt, SystemExit):
                for reference in running:  # Without force, so that a task can save its state.
                    ray.cancel(reference, force=False)
                if running:
                    ray.wait(list(running), num_returns=len(running), timeout=SECONDS_TO_SAVE)
                raise

    @contextmanager
    def worker_pool(self, number: int, prepare: Callable[[], None]) -> Iterator["_RayWorkerPool"]:
        """Yield a pool of actors; an actor whose machine is lost restarts on another one.

        Raises:
            EnvironmentFailure: there is no cluster, or no machine of it has enough cores.
        """
        with self._connect() as ray:
            options = {"max_restarts": _MAX_RETRIES, "max_task_retries": _MAX_RETRIES}
            actor = ray.remote(**self._task_resources(ray), **options, concurrency_groups={_CANCELLING: 1})(_Actor)
            yield _RayWorkerPool([actor.remote(self._set_up, each, prepare) for each in range(number)])

    def _task_resources(self, ray: Any) -> dict[str, float]:
        """Return the resources that a task needs.

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
        accelerated = self.runtime.requested_device != "cpu" and any(machine.get("GPU", 0) >= 1 for machine in machines)
        return {"num_cpus": self.runtime.threads, "num_gpus": float(accelerated)}

    @contextmanager
    def _connect(self) -> Iterator[Any]:
        # Ray would send usage statistics over the network.
        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
        # Several models may log equal lines.
        os.environ.setdefault("RAY_DEDUP_LOGS", "0")
        import ray

        connects = not ray.is_initialized()
        if connects:
            options: dict[str, Any] = {"include_dashboard": False} if self.address is None else {}
            try:
                ray.init(self.address or "local", logging_level=logging.ERROR, configure_logging=False, **options)
            except (ConnectionError, ValueError, RuntimeError) as error:
                problem, found = _NO_CLUSTER.format(self.address), str(error).strip().splitlines()[0]
                raise EnvironmentFailure(problem, found=found, next_step=_NEXT_STEP) from error
        try:
            yield ray
        finally:
            if connects:
                ray.shutdown()  # This also ends running tasks.


def require_cluster(address: str | None) -> None:
    """Raise if no process listens at a cluster's address; Ray itself would retry for minutes.

    Raises:
        UsageError: the address has another form.
        EnvironmentFailure: no process listens.
    """
    if address in (None, "auto", "local"):
        return
    host, _, port = str(address).removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit() or int(port) > 65535:
        raise UsageError(f"--ray-address {address}", expected="auto, HOST:PORT or ray://HOST:PORT")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECTION_TIMEOUT).close()
    except OSError as error:
        raise EnvironmentFailure(_NO_CLUSTER.format(address), found=str(error), next_step=_NEXT_STEP) from error


def _run_task(set_up: Callable[[], None], function: Callable[..., Result], item: Item, *common: Any) -> Any:
    # Ray makes only a process's own devices visible to it, so it needs no worker number.
    start_worker(None, CancelToken())

    def run_in_env(each: Item) -> Result:
        set_up()
        return function(each, *common)

    return run_item(run_in_env, item)


_CANCELLING = "cancelling"
"""Ray's concurrency group that delivers cancellations while a task runs."""


class _Actor:
    """A worker of a pool, on any machine of the cluster."""

    def __init__(self, set_up: Callable[[], None], number: int, prepare: Callable[[], None]) -> None:
        self.cancel_token = CancelToken()
        set_up()
        start_worker(number, self.cancel_token, prepare)

    def work(self, function: Callable[[Item], Result], item: Item, generation: int) -> Any:
        return run_item(function, item, generation)

    def cancel_all(self, generation: int) -> None:
        self.cancel_token.value = generation


class _RayWorkerPool:
    """The counterpart of `workers.WorkerPool` with Ray's actors."""

    def __init__(self, actors: Sequence[Any]) -> None:
        self._actors, self._generation = actors, 0
        self._pending: list[list[Future[Any]]] = [[] for _ in actors]

    def submit(self, function: Callable[[Item], Result], item: Item) -> "Future[Any]":
        """Queue a task at the actor with the fewest pending tasks."""
        self._pending = [[future for future in each if not future.done()] for each in self._pending]
        index = min(range(len(self._actors)), key=lambda each: len(self._pending[each]))
        reference, future = self._actors[index].work.remote(function, item, self._generation), Future[Any]()
        reference.future().add_done_callback(lambda done: future.set_result(_get_result(done.result)))
        self._pending[index].append(future)
        return future

    def cancel_all(self) -> None:
        """Cancel all tasks submitted so far: waiting ones do not start, and running ones may end early."""
        self._generation += 1
        for actor in self._actors:
            actor.cancel_all.options(concurrency_group=_CANCELLING).remote(self._generation)


def _get_result(wait: Callable[[], Any]) -> Any:
    """Return a task's result, or the error for a task that Ray could not finish."""
    import ray

    try:
        return wait()
    except ray.exceptions.RayError as error:
        return EnvironmentFailure(
            "Ray could not finish this task",
            found=str(error).strip().splitlines()[0],
            next_step="check the machine's memory, and that soups is installed on each machine of the cluster",
        )
