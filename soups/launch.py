"""Running a callable on many items: one after the other, or side by side in processes of their own."""

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from typing import Any, TypeVar

from soups.cli import set_up_logging
from soups.errors import EnvironmentFailure
from soups.records import refusal

Item = TypeVar("Item")
Result = TypeVar("Result")

_SECONDS_TO_SAVE = 120.0
"""What a worker process may take for its step and its state, once it was asked to leave."""


def run_all(
    function: Callable[[Item], Result], items: Sequence[Item], jobs: int
) -> Iterator[tuple[Item, Result | Exception]]:
    """Yield each item with its result, or with the exception that it raised, as they finish.

    Args:
        function: importable by name, because processes are spawned afresh; imports stay loaded between items.
        items: what to run it on; taken from a shared list, so a slow item does not hold up the others.
        jobs: how many processes; 1 runs in this one.
    """
    if min(jobs, len(items)) <= 1:
        for item in items:
            yield item, caught(function, item)
        return
    with worker_processes(min(jobs, len(items))) as pool:
        futures = {pool.submit(caught, function, item): item for item in items}
        for future in as_completed(futures):
            yield futures[future], result_of(future, "give fewer --jobs")


@contextmanager
def worker_processes(
    number: int, prepare: Callable[..., None] | None = None, arguments: tuple[Any, ...] = ()
) -> Iterator[ProcessPoolExecutor]:
    """Processes for the block, spawned as work comes in; they end with it, at once if it ends by an exception.

    Args:
        number: how many at the most.
        prepare: called in each before its first work; importable by name.
        arguments: for it.
    """
    context = multiprocessing.get_context("spawn")
    initial = (prepare, arguments)
    with ProcessPoolExecutor(number, mp_context=context, initializer=_begin, initargs=initial) as pool:
        try:
            yield pool
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            _end(multiprocessing.active_children())
            raise


def _end(processes: Sequence[BaseProcess]) -> None:
    """Ask processes to leave, which may save the state of their work first, and wait for them, but not for ever."""
    try:
        for process in processes:
            process.terminate()
        latest = time.monotonic() + _SECONDS_TO_SAVE
        for process in processes:
            process.join(max(0.0, latest - time.monotonic()))
    finally:  # Somebody may not want to wait so long.
        for process in processes:
            process.kill()


def result_of(future: Future[Result], advice: str) -> Result | EnvironmentFailure:
    """What a worker process made of its work, waited for; where it died, what may help."""
    try:
        return future.result()
    except BrokenProcessPool:
        problem = "a worker process ended without a word"
        return EnvironmentFailure(problem, next_step=f"it may have run out of memory: {advice}")


def _begin(prepare: Callable[..., None] | None, arguments: tuple[Any, ...]) -> None:
    """What a worker process does first."""
    set_up_logging()
    # Ctrl-C reaches every process of a terminal; the parent decides, and ends us.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if prepare is not None:
        prepare(*arguments)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    # Nobody waits for the result any more; files appear whole or not at all.
    os._exit(1)


def caught(function: Callable[[Item], Result], item: Item) -> Result | Exception:
    """The result, or the exception that was raised; the operating system's refusals in words."""
    try:
        return function(item)
    except OSError as error:
        return refusal(error, error.filename or "a file") or error
    except Exception as error:
        return error
