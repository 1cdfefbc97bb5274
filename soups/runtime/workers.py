"""Worker processes: run a function on many items in sequence or in parallel, with cancellation."""

import multiprocessing
import os
import pickle
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, ThreadPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from typing import Any, TypeVar

from soups.cli.outcome import set_up_logging
from soups.core.errors import EnvironmentFailure, UserError
from soups.core.plugins import load_plugins
from soups.files.atomic import explain_os_error

Item = TypeVar("Item")
Result = TypeVar("Result")
Results = Iterator[tuple[Item, Result | Exception]]
"""Items with their results, or with the exceptions that they raised."""

SECONDS_TO_SAVE = 120.0
"""Time for a worker to finish its step and save its state after a request to stop."""


@dataclass
class CancelToken:
    """The generation of tasks that is not cancelled; in a worker process, shared memory replaces it."""

    value: int = 0
    """Tasks of generations below this number are cancelled."""


@dataclass
class _WorkerState:
    """This worker's index and cancel token."""

    number: int | None = None
    """Index of the worker, from 0; None in a process that is not a worker."""
    cancel_token: Any = field(default_factory=CancelToken)
    generation: int = 0
    """Generation of the present task."""


_state = _WorkerState()


def run_all(function: Callable[[Item], Result], items: Sequence[Item], jobs: int) -> Results[Item, Result]:
    """Yield each item with its result, or with the exception that it raised, as they finish.

    If a worker process dies, only the item in progress fails.

    Args:
        function: importable by name, because processes are spawned; their imports stay loaded between items.
        items: the items; a process takes the next one when it is free, so a slow item does not delay the others.
        jobs: number of processes; 1 runs in this process.
    """
    if min(jobs, len(items)) <= 1:
        for item in items:
            yield item, call_catching(function, item)
        return
    with WorkerPool(min(jobs, len(items))) as workers:
        waiting = iter(items)
        running, finished = dict[Future[Any], Item](), list[tuple[Item, Any]]()
        while True:
            # Submits before it yields, so that no worker is idle while the caller processes the results.
            for item in islice(waiting, workers.number - len(running)):
                running[workers.submit(function, item)] = item
            yield from finished
            if not running:
                return
            done, _ = wait(running, return_when=FIRST_COMPLETED)
            finished = [(running.pop(future), wait_for_result(future, "use fewer --jobs")) for future in done]


@dataclass
class _Worker:
    """A worker process and its pending tasks."""

    process: ProcessPoolExecutor
    pending: list[Future[Any]] = field(default_factory=list)


class WorkerPool:
    """Worker processes for a `with` block, which keep their imports between tasks.

    A process is started when it is first needed. All end with the block, at once if the block raises.

    Args:
        number: maximum number of processes.
        prepare: called in each process before its first task; importable by name.
    """

    def __init__(self, number: int, prepare: Callable[[], None] | None = None) -> None:
        self.number, self._prepare = number, prepare
        self._cancel_token = multiprocessing.get_context("spawn").Value("q", 0)
        # Executors of one process each, because an executor of several ends all of them when one dies.
        self._workers: dict[int, _Worker] = {}

    def submit(self, function: Callable[[Item], Result], item: Item) -> "Future[Result | Exception]":
        """Queue a task at the worker with the fewest pending tasks; an exception that it raises is its result."""
        number = min(range(self.number), key=self._count_pending)
        worker = self._workers.get(number) or self._start_process(number)
        task = partial(run_item, function, item, self._cancel_token.value)
        try:
            future = worker.process.submit(task)
        except BrokenProcessPool:  # The process died in an earlier task, whose future reports it.
            worker = self._start_process(number)
            future = worker.process.submit(task)
        worker.pending.append(future)
        return future

    def cancel_all(self) -> None:
        """Cancel all tasks submitted so far: waiting ones do not start, and running ones may end early."""
        self._cancel_token.value += 1
        for worker in self._workers.values():
            for future in worker.pending:
                future.cancel()

    def _count_pending(self, number: int) -> int:
        if number not in self._workers:
            return 0
        worker = self._workers[number]
        worker.pending = [future for future in worker.pending if not future.done()]
        return len(worker.pending)

    def _start_process(self, number: int) -> _Worker:
        context, arguments = multiprocessing.get_context("spawn"), (number, self._cancel_token, self._prepare)
        process = ProcessPoolExecutor(1, mp_context=context, initializer=_initialize_process, initargs=arguments)
        self._workers[number] = _Worker(process)
        return self._workers[number]

    def __enter__(self) -> "WorkerPool":
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        if kind is None:
            with ThreadPoolExecutor(self.number) as threads:  # In parallel, because each shutdown takes a while.
                list(threads.map(lambda worker: worker.process.shutdown(), self._workers.values()))
            return
        for worker in self._workers.values():
            worker.process.shutdown(wait=False, cancel_futures=True)
        # SIGTERM lets the processes save their state; they are killed after `SECONDS_TO_SAVE`.
        processes = multiprocessing.active_children()
        try:
            for process in processes:
                process.terminate()
            latest = time.monotonic() + SECONDS_TO_SAVE
            for process in processes:
                process.join(max(0.0, latest - time.monotonic()))
        finally:  # A second request to stop interrupts the wait.
            for process in processes:
                process.kill()


def wait_for_result(future: "Future[Result | Exception]", advice: str) -> Result | Exception:
    """Wait for a task and return its result; an error with `advice` as next step if its process died."""
    try:
        return future.result()
    except BrokenProcessPool:
        problem = "a worker process ended without an error message"
        return EnvironmentFailure(problem, next_step=f"it may have run out of memory: {advice}")


def worker_number() -> int | None:
    """Return the index of this process in its worker pool, from 0; None if it is not a worker."""
    return _state.number


def is_cancelled() -> bool:
    """Return whether the present task of this process was cancelled."""
    # Not `!=`: the token of a restarted worker may be behind the task's generation, but never ahead of the newest one.
    return bool(_state.generation < _state.cancel_token.value)


def start_worker(number: int | None, cancel_token: Any, prepare: Callable[[], None] | None = None) -> None:
    """Make this process a worker.

    Args:
        number: index of the worker, from 0; None if the process sees only its own devices.
        cancel_token: its `value` is the generation that is not cancelled, see `CancelToken`.
        prepare: called last.
    """
    load_plugins()
    set_up_logging()
    _state.number, _state.cancel_token = number, cancel_token
    if prepare is not None:
        prepare()


def _initialize_process(*arguments: Any) -> None:
    """Make a new process a worker that ends with its parent; the arguments are those of `start_worker`."""
    # A terminal sends Ctrl-C to all processes of the group; the parent ends its workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_exit_with_parent, daemon=True).start()
    start_worker(*arguments)


def _exit_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    # No process waits for the result any more, and files are written atomically.
    os._exit(1)


def run_item(function: Callable[[Any], Any], item: Any, generation: int = 0) -> Any:
    """Run a task in a worker process; return its result or exception, or None if it was cancelled."""
    _state.generation = generation
    return None if is_cancelled() else make_picklable(call_catching(function, item))


def call_catching(function: Callable[[Item], Result], item: Item) -> Result | Exception:
    """Return the result or the exception raised; errors of the operating system as `EnvironmentFailure`."""
    try:
        return function(item)
    except OSError as error:
        return explain_os_error(error) or error
    except Exception as error:
        return error


def make_picklable(result: Any) -> Any:
    """Return a result that can be pickled; an exception keeps its traceback as a note.

    Pickling drops tracebacks. A `UserError` needs none, because it is shown without it.
    """
    if not isinstance(result, Exception) or isinstance(result, UserError):
        return result
    lines = "".join(traceback.format_exception(result)).rstrip()
    try:
        copy = pickle.loads(pickle.dumps(result))
        if not isinstance(copy, Exception):
            raise TypeError("no exception any more")
    except Exception:  # Exception classes of other packages can fail in any way here.
        result = RuntimeError(f"{type(result).__name__}: {result}")
    result.__traceback__ = None
    result.add_note(f"in a worker process:\n{lines}")
    return result
