"""Requests to stop: recorded in deferring blocks, raised elsewhere; two signals within half a second are one."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from soups.core import signals
from soups.core.signals import defer_interruption, ignore_stop_signals, raise_interruption

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def default_handlers() -> Iterator[None]:
    """Reset the handlers: a shell lets background jobs ignore Ctrl-C, and these tests would ignore it as well."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def send(number: signal.Signals) -> None:
    os.kill(os.getpid(), number)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, None), (signal.SIGTERM, 143)])
def test_the_first_request_is_recorded_and_the_second_raises(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], number: signal.Signals, code: int | None
) -> None:
    monkeypatch.setattr(signals, "_SAME_REQUEST_SECONDS", 0.0)
    recorded = False
    with pytest.raises(KeyboardInterrupt if code is None else SystemExit) as caught, defer_interruption() as request:
        assert request.number is None
        send(number)
        recorded = request.number == number
        send(number)
    assert recorded and getattr(caught.value, "code", None) == code
    assert capfd.readouterr().err == "stopping: saves the state, then exits; press Ctrl-C again to exit at once\n"


def test_two_signals_within_half_a_second_are_one_request() -> None:
    with defer_interruption() as request:
        send(signal.SIGTERM)
        send(signal.SIGTERM)
    assert request.number == signal.SIGTERM
    with pytest.raises(SystemExit, match="143"), raise_interruption():
        send(signal.SIGTERM)


def test_raise_at_once_raises_new_and_earlier_requests() -> None:
    with pytest.raises(SystemExit), defer_interruption() as request, request.raise_at_once():
        send(signal.SIGTERM)
    with defer_interruption() as request:
        send(signal.SIGTERM)
        with pytest.raises(SystemExit, match="143"), request.raise_at_once():
            raise AssertionError("never begun")


def test_handlers_are_restored_and_ignored_signals_stay_ignored() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    before = signal.getsignal(signal.SIGTERM)
    with defer_interruption() as request:
        send(signal.SIGINT)
    assert request.number is None
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == (signal.SIG_IGN, before)


def test_ignore_stop_signals_ignores_both() -> None:
    ignore_stop_signals()
    send(signal.SIGINT)
    send(signal.SIGTERM)


WORKERS = """
import sys, time
from pathlib import Path
from soups.core.signals import defer_interruption
from soups.runtime.workers import run_all

def work(name):
    with defer_interruption() as request:
        Path(name).touch()
        while request.number is None:
            time.sleep(0.01)
        time.sleep(0.2)  # Its state takes a moment.
        Path(name + ".saved").touch()
        raise request.exception()

if __name__ == "__main__":
    from soups.core.signals import raise_interruption
    with raise_interruption():
        list(run_all(work, sys.argv[1:], jobs=2))
"""


def test_workers_save_their_state_when_the_command_is_stopped(tmp_path: Path) -> None:
    script, names = tmp_path / "script.py", [str(tmp_path / name) for name in ("one", "two")]
    script.write_text(WORKERS)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen([sys.executable, str(script), *names], env=environment, stderr=subprocess.PIPE) as process:
        latest = time.monotonic() + 600
        while not all(Path(name).exists() for name in names) and time.monotonic() < latest:
            time.sleep(0.02)
        process.send_signal(signal.SIGTERM)
        _, stderr = process.communicate(timeout=600)
    assert process.returncode == 143, stderr
    assert all(Path(f"{name}.saved").exists() for name in names)
