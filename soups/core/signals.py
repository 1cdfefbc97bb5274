"""Handling of Ctrl-C (SIGINT) and SIGTERM: raise an exception, or record the request until a safe point."""

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

_SAME_REQUEST_SECONDS = 0.5
"""Signals within this time count as one request: `timeout` and a terminal signal both the process and its group."""
_NOTICE = b"stopping: saves the state, then exits; press Ctrl-C again to exit at once\n"


class Interruption:
    """The state of the request to stop this process.

    Args:
        immediate: raise at the first signal, instead of recording it.
    """

    def __init__(self, immediate: bool = False) -> None:
        self.number: int | None = None
        """The signal received; None without a request."""
        self._immediate = immediate
        self._received_at = 0.0

    def handle(self, number: int, frame: FrameType | None = None) -> None:
        """Record a signal; this is the signal handler.

        Raises:
            KeyboardInterrupt: for SIGINT, at the second request, or at the first one inside `raise_at_once`.
            SystemExit: for other signals in the same cases, with exit code 128 + number.
        """
        now, first = time.monotonic(), self.number is None
        if not first and now - self._received_at < _SAME_REQUEST_SECONDS:
            return
        if first:
            self.number, self._received_at = number, now
        # A worker ignores a second request: its parent may signal it twice, and kills it after a time limit.
        if self._immediate or (not first and multiprocessing.parent_process() is None):
            raise self.exception()
        if first:
            os.write(2, _NOTICE)  # Not a logger: the signal may have interrupted it in the middle of a line.

    def exception(self) -> BaseException:
        """Return the exception that ends the command with the signal's exit code: 130 or 143."""
        if self.number == signal.SIGINT:
            return KeyboardInterrupt()
        # Without a number, another process of the process group received the signal.
        return SystemExit(128 + (self.number or signal.SIGTERM))

    @contextmanager
    def raise_at_once(self) -> Iterator[None]:
        """Raise at the first request inside the block; for code that may be interrupted anywhere."""
        if self.number is not None:
            raise self.exception()
        self._immediate = True
        try:
            yield
        finally:
            self._immediate = False


@contextmanager
def defer_interruption() -> Iterator[Interruption]:
    """Record the first request to stop inside the block; the block must check for it and end itself.

    A worker process exits at the end of a block that was stopped, because its pool would wait for it otherwise.
    """
    interruption = Interruption()
    with _signals_handled_by(interruption.handle):
        try:
            yield interruption
        except (KeyboardInterrupt, SystemExit):
            if interruption.number is not None and multiprocessing.parent_process() is not None:
                os._exit(128 + interruption.number)
            raise


@contextmanager
def raise_interruption() -> Iterator[None]:
    """Raise an exception at a request to stop inside the block; signals within half a second raise once."""
    with _signals_handled_by(Interruption(immediate=True).handle):
        yield


@contextmanager
def _signals_handled_by(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Install a handler for SIGINT and SIGTERM in the block, except for ignored ones (background jobs ignore them).

    Only the main thread may install handlers; other threads change nothing.
    """
    signals = (signal.SIGINT, signal.SIGTERM) if threading.current_thread() is threading.main_thread() else ()
    handled = [number for number in signals if signal.getsignal(number) not in (signal.SIG_IGN, None)]
    before = {number: signal.signal(number, handler) for number in handled}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)


def ignore_stop_signals() -> None:
    """Ignore SIGINT and SIGTERM in a process that its parent ends."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
