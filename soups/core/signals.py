"""Ctrl-C and SIGTERM: an exception by default, and a request that is noted while something must not be torn apart."""

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

_ONE_REQUEST = 0.5
"""Seconds in which signals are one request: `timeout` and a terminal send one to the process and one to its group."""
_NOTICE = b"saving the state, then leaving; once more to leave at once\n"


class Interruption:
    """Whether somebody asked to leave."""

    def __init__(self) -> None:
        self.number: int | None = None
        """The signal that asked; None: nobody did."""
        self._since, self._at_once = 0.0, False

    def note(self, number: int, frame: FrameType | None = None) -> None:
        """Take note of a signal; what a handler does.

        Raises:
            KeyboardInterrupt: of Ctrl-C, the second time, or at once where that is allowed.
            SystemExit: of another signal, as well, with its exit code.
        """
        now, first = time.monotonic(), self.number is None
        if not first and now - self._since < _ONE_REQUEST:
            return
        if first:
            self.number, self._since = number, now
        if self._at_once or (not first and not _in_worker()):
            raise self.exception()
        if first:
            os.write(2, _NOTICE)  # A logger may be in the middle of a line when a signal comes.

    def exception(self) -> BaseException:
        """What ends the command with the signal's exit code: 130 or 143."""
        # Without a number, another process of the group was asked.
        return (
            KeyboardInterrupt() if self.number == signal.SIGINT else SystemExit(128 + (self.number or signal.SIGTERM))
        )

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Within the block, the first request is an exception too: nothing is changed there that could be torn."""
        if self.number is not None:
            raise self.exception()
        self._at_once = True
        try:
            yield
        finally:
            self._at_once = False


def _in_worker() -> bool:
    """Whether the parent process decides: it may terminate us twice, and kills us when it has waited long enough."""
    return multiprocessing.parent_process() is not None


@contextmanager
def defer_interruption() -> Iterator[Interruption]:
    """Within the block, the first request to leave is only noted; the block looks for it and ends itself.

    A worker process ends with the block then, for its pool would go on waiting for it.
    """
    found = Interruption()
    with _handled_by(found.note):
        try:
            yield found
        except (KeyboardInterrupt, SystemExit):
            if found.number is not None and _in_worker():
                os._exit(128 + found.number)
            raise


@contextmanager
def raise_interruption() -> Iterator[None]:
    """Within the block, a request to leave is an exception, once however often it is made in half a second."""
    found = Interruption()
    found._at_once = True
    with _handled_by(found.note):
        yield


@contextmanager
def _handled_by(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Both signals, as far as they are not ignored (as those of background jobs are); only the main thread may."""
    signals = (signal.SIGINT, signal.SIGTERM) if threading.current_thread() is threading.main_thread() else ()
    before = {number: signal.getsignal(number) for number in signals}
    before = {number: old for number, old in before.items() if old not in (signal.SIG_IGN, None)}
    for number in before:
        signal.signal(number, handler)
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)


def leave_signals_to_parent() -> None:
    """Ignore both in a process that has no say: it ends when its parent tells it to, or is gone."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
