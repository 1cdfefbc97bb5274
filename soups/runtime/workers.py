"""Running a callable on many items: one after the other, or side by side in processes of their own."""

import atexit
import multiprocessing
import os
import pickle
import signal
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, ThreadPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from typing import Any, TypeVar

from soups.cli.outcome import set_up_logging
from soups.core.errors import EnvironmentFailure, UserError
from soups.core.plugins import load_plugins
from soups.files.atomic import explain_os_error

Item = TypeVar("Item")
Result = TypeVar("Result")

SECONDS_TO_SAVE = 120.0
"""What a worker may take for its step and its state, once it was asked to leave."""


@dataclass
class CancelToken:
    """What was last asked for; here it is a plain number, in a process it is one that its parent can change."""

    value: int = 0
    """Of orders that were called off."""


@dataclass
class _Place:
    """Of this process among the workers of its crew."""

    number: int | None = None
    """From 0; None in a process that is no worker."""
    newest: Any = field(default_factory=CancelToken)
    """The number of the order that was given last."""
    at: int = 0
    """The order that the present work is part of."""


_place = _Place()


def run_all(
    function: Callable[[Item], Result], items: Sequence[Item], jobs: int, crew: "WorkerPool | None" = None
) -> Iterator[tuple[Item, Result | Exception]]:
    """Yield each item with its result, or with the exception that it raised, as they finish.

    A worker process that dies costs the item that it was at, no other.

    Args:
        function: importable by name, because processes are spawned afresh; imports stay loaded between items.
        items: what to run it on; taken from a shared list, so a slow item does not hold up the others.
        jobs: how many processes; 1 runs in this one.
        crew: processes that are there already, to be used instead of new ones.
    """
    if min(jobs, len(items)) <= 1:
        for item in items:
            yield item, call_catching(function, item)
        return
    with WorkerPool(min(jobs, len(items))) if crew is None else nullcontext(crew) as crew:
        waiting = deque(items)
        first = [waiting.popleft() for _ in range(min(crew.number, len(items)))]
        under_way = {crew.submit(function, item): item for item in first}
        while under_way:
            done, _ = wait(under_way, return_when=FIRST_COMPLETED)
            finished = [(under_way.pop(future), wait_for_result(future, "give fewer --jobs")) for future in done]
            for _ in range(min(len(done), len(waiting))):  # Nobody is idle while the caller looks at the results.
                item = waiting.popleft()
                under_way[crew.submit(function, item)] = item
            yield from finished


@dataclass
class _Seat:
    """A worker process and the work that it was given."""

    process: ProcessPoolExecutor
    given: list[Future[Any]] = field(default_factory=list)

    def load(self) -> int:
        self.given = [future for future in self.given if not future.done()]
        return len(self.given)


class WorkerPool:
    """Worker processes for a `with` block, spawned as work comes in, which keep what they imported from one piece to
    the next; they end with the block, at once if it ends by an exception.

    Args:
        number: how many at the most.
        prepare: called in each before its first work; importable by name.
        arguments: for it.
    """

    def __init__(
        self, number: int, prepare: Callable[..., None] | None = None, arguments: tuple[Any, ...] = ()
    ) -> None:
        self.number, self._initial = number, (prepare, arguments)
        self._newest = multiprocessing.get_context("spawn").Value("q", 0)
        # One process each: an executor of several ends them all when one of them dies.
        self._seats: dict[int, _Seat] = {}

    def submit(self, function: Callable[[Item], Result], item: Item) -> "Future[Result | Exception]":
        """Hand a piece of work to whoever has the least to do; an exception that it raises is its result."""
        number = min(range(self.number), key=lambda each: self._seats[each].load() if each in self._seats else 0)
        if number not in self._seats:
            self._seats[number] = self._seat(number)
        order = self._newest.value
        try:
            future = self._seats[number].process.submit(run_item, function, item, order)
        except BrokenProcessPool:  # It died over the work before; whoever waits for that is told.
            self._seats[number] = self._seat(number)
            future = self._seats[number].process.submit(run_item, function, item, order)
        self._seats[number].given.append(future)
        return future

    def cancel_all(self) -> None:
        """Nobody wants the results of what was submitted so far: it is not begun any more, and may end early."""
        self._newest.value += 1
        for seat in self._seats.values():
            for future in seat.given:
                future.cancel()

    def _seat(self, number: int) -> _Seat:
        context, arguments = multiprocessing.get_context("spawn"), (number, self._newest, *self._initial)
        return _Seat(ProcessPoolExecutor(1, mp_context=context, initializer=_begin, initargs=arguments))

    def __enter__(self) -> "WorkerPool":
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        if kind is None:
            with ThreadPoolExecutor(self.number) as threads:  # All at once: leaving takes each a while.
                list(threads.map(lambda seat: seat.process.shutdown(), self._seats.values()))
            return
        for seat in self._seats.values():
            seat.process.shutdown(wait=False, cancel_futures=True)
        _end(multiprocessing.active_children())


def _end(processes: Sequence[BaseProcess]) -> None:
    """Ask processes to leave, which may save the state of their work first, and wait for them, but not for ever."""
    try:
        for process in processes:
            process.terminate()
        latest = time.monotonic() + SECONDS_TO_SAVE
        for process in processes:
            process.join(max(0.0, latest - time.monotonic()))
    finally:  # Somebody may not want to wait so long.
        for process in processes:
            process.kill()


def wait_for_result(future: "Future[Result | Exception]", advice: str) -> Result | Exception:
    """What a worker process made of its work, waited for; where it died, what may help."""
    try:
        return future.result()
    except BrokenProcessPool:
        problem = "a worker process ended without a word"
        return EnvironmentFailure(problem, next_step=f"it may have run out of memory: {advice}")


def worker_number() -> int | None:
    """Which worker of its crew this process is, from 0; None where it is none."""
    return _place.number


def is_cancelled() -> bool:
    """Whether nobody wants the result of this process's present work any more."""
    # A worker that took the place of a dead one may not have heard of the newest order, but none can be ahead of it.
    return bool(_place.at < _place.newest.value)


def start_worker(
    number: int | None, newest: Any, prepare: Callable[..., None] | None, arguments: tuple[Any, ...]
) -> None:
    """Make this process a worker.

    Args:
        number: of the worker, from 0; None where each sees its own devices alone.
        newest: its `value` is the number of the newest order.
        prepare: called with `arguments`.
        arguments: for it.
    """
    load_plugins()
    set_up_logging()
    _place.number, _place.newest = number, newest
    if prepare is not None:
        prepare(*arguments)


def _begin(number: int, newest: Any, prepare: Callable[..., None] | None, arguments: tuple[Any, ...]) -> None:
    """What a worker process does first."""
    # Ctrl-C reaches every process of a terminal; the parent decides, and ends us.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    atexit.register(_leave)  # The first to be registered runs last.
    start_worker(number, newest, prepare, arguments)


def _leave() -> None:
    """End without taking apart what is loaded, which costs torch a second."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):
            stream.flush()
    os._exit(0)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    # Nobody waits for the result any more; files appear whole or not at all.
    os._exit(1)


def run_item(function: Callable[[Any], Any], item: Any, order: int = 0) -> Any:
    """A piece of work in a worker process: its result, or the exception that it raised; None if it was called off."""
    _place.at = order
    return None if is_cancelled() else make_picklable(call_catching(function, item))


def call_catching(function: Callable[[Item], Result], item: Item) -> Result | Exception:
    """The result, or the exception that was raised; the operating system's refusals in words."""
    try:
        return function(item)
    except OSError as error:
        return explain_os_error(error, error.filename or "a file") or error
    except Exception as error:
        return error


def make_picklable(result: Any) -> Any:
    """A result as another process can have it: a fault of ours with its traceback, which pickling leaves behind."""
    if not isinstance(result, Exception) or isinstance(result, UserError):
        return result
    lines = "".join(traceback.format_exception(result)).rstrip()
    try:
        copy = pickle.loads(pickle.dumps(result))
        if not isinstance(copy, Exception):
            raise TypeError("no exception any more")
    except Exception:  # Anything may go wrong in a class that somebody else wrote.
        result = RuntimeError(f"{type(result).__name__}: {result}")
    result.__traceback__ = None
    result.add_note(f"in a worker process:\n{lines}")
    return result
