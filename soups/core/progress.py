"""Progress reports: a progress bar on a terminal, otherwise a log line now and then."""

import logging
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from threading import Event, Thread
from typing import TypeVar

logger = logging.getLogger(__name__)

Item = TypeVar("Item")
SECONDS_BETWEEN_LINES = 30.0
_SECONDS_BETWEEN_UPDATES = 1.0


def track(items: Iterable[Item], description: str, total: int | None = None) -> Iterator[Item]:
    """Yield the items and report on stderr how many are done.

    Args:
        items: the items to process.
        description: the name of the work, in a few words.
        total: the number of items, if `items` has no length.
    """
    if total is None and hasattr(items, "__len__"):
        total = len(items)  # type: ignore[arg-type]
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import track as show_bar

        yield from show_bar(items, description, total=total, console=Console(stderr=True), transient=True)
        return
    last = time.monotonic()
    for done, item in enumerate(items, start=1):
        yield item
        if time.monotonic() - last >= SECONDS_BETWEEN_LINES:
            last = time.monotonic()
            logger.info("%s: %d%s", description, done, f" of {total}" if total else "")


@contextmanager
def follow(count_done: Callable[[], float], total: float, description: str, unit: str) -> Iterator[None]:
    """Report on stderr how much of the work of other processes is done and how long the rest takes.

    Args:
        count_done: returns the amount that is done; called in a thread, now and then.
        total: the amount of all work.
        description: the name of the work, in a few words.
        unit: of the amount, plural.
    """
    started, done_before, end = time.monotonic(), count_done(), Event()

    def report() -> tuple[float, str]:
        done = count_done()
        text = f"{done:.0f} of {total:.0f} {unit}"
        if done > done_before:
            seconds = (time.monotonic() - started) * (total - done) / (done - done_before)
            text += f", about {format_duration(seconds)} left"
        return done, text

    thread = Thread(
        target=_follow_live if sys.stderr.isatty() else _follow_in_log, args=(report, total, description, end)
    )
    thread.start()
    try:
        yield
    finally:
        end.set()
        thread.join()


def _follow_live(report: Callable[[], tuple[float, str]], total: float, description: str, end: Event) -> None:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    columns = TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[text]}")
    with Progress(*columns, console=Console(stderr=True), transient=True, refresh_per_second=1) as bar:
        task = bar.add_task(description, total=total, text="")
        while not end.wait(_SECONDS_BETWEEN_UPDATES):
            done, text = report()
            bar.update(task, completed=done, text=text)


def _follow_in_log(report: Callable[[], tuple[float, str]], total: float, description: str, end: Event) -> None:
    while not end.wait(SECONDS_BETWEEN_LINES):
        logger.info("%s: %s", description, report()[1])


def format_duration(seconds: float) -> str:
    """Return a duration with the two largest units, such as `1 h 05 min`, `12 min` or `40 s`."""
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02} min"
