"""Running a callable on many items: one after the other, or side by side in processes of their own."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from soups.cli import set_up_logging
from soups.errors import EnvironmentFailure
from soups.records import refusal

Item = TypeVar("Item")
Result = TypeVar("Result")


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
            yield item, _caught(function, item)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(jobs, len(items)), mp_context=context, initializer=_begin) as pool:
        futures = {pool.submit(_caught, function, item): item for item in items}
        try:
            for future in as_completed(futures):
                try:
                    yield futures[future], future.result()
                except BrokenProcessPool:
                    problem = "a worker process ended without a word"
                    next_step = "it may have run out of memory: give fewer --jobs"
                    yield futures[future], EnvironmentFailure(problem, next_step=next_step)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in multiprocessing.active_children():
                process.terminate()
            raise


def _begin() -> None:
    """What a worker process does first."""
    set_up_logging()
    # Ctrl-C reaches every process of a terminal; the parent decides, and ends us.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    # Nobody waits for the result any more; files appear whole or not at all.
    os._exit(1)


def _caught(function: Callable[[Item], Result], item: Item) -> Result | Exception:
    try:
        return function(item)
    except OSError as error:
        return refusal(error, error.filename or "a file") or error
    except Exception as error:
        return error
