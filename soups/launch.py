"""Running a callable on many items: one after the other, or side by side in processes of their own."""

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from soups.cli import set_up_logging
from soups.errors import EnvironmentFailure

Item = TypeVar("Item")
Result = TypeVar("Result")


def run_all(
    function: Callable[[Item], Result], items: Sequence[Item], jobs: int, debug: bool = False
) -> Iterator[tuple[Item, Result | Exception]]:
    """Yield each item with its result, or with the exception that it raised, as they finish.

    Args:
        function: importable by name, because processes are spawned afresh; imports stay loaded between items.
        items: what to run it on; taken from a shared list, so a slow item does not hold up the others.
        jobs: how many processes; 1 runs in this one.
        debug: log as with `--debug` in the processes too.
    """
    if min(jobs, len(items)) <= 1:
        for item in items:
            yield item, _caught(function, item)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(
        min(jobs, len(items)), mp_context=context, initializer=set_up_logging, initargs=(debug,)
    ) as pool:
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
            raise


def _caught(function: Callable[[Item], Result], item: Item) -> Result | Exception:
    try:
        return function(item)
    except Exception as error:
        return error
