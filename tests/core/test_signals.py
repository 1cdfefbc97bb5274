"""Requests to leave: noted where something must not be torn, raised elsewhere, and two within a moment are one."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from soups.core import signals as interruption
from soups.core.signals import defer_interruption, leave_signals_to_parent, raise_interruption

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def as_at_a_terminal() -> Iterator[None]:
    """What a shell starts in the background ignores Ctrl-C, and so would these tests."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def ask(number: signal.Signals) -> None:
    os.kill(os.getpid(), number)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, None), (signal.SIGTERM, 143)])
def test_the_first_request_is_noted_and_the_second_raises(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], number: signal.Signals, code: int | None
) -> None:
    monkeypatch.setattr(interruption, "_ONE_REQUEST", 0.0)
    went_on = False
    with pytest.raises(KeyboardInterrupt if code is None else SystemExit) as raised_, defer_interruption() as found:
        assert found.number is None
        ask(number)
        went_on = found.number == number
        ask(number)
    assert went_on and getattr(raised_.value, "code", None) == code
    assert capfd.readouterr().err == "saving the state, then leaving; once more to leave at once\n"


def test_two_within_a_moment_are_one_request() -> None:
    with defer_interruption() as found:
        ask(signal.SIGTERM)
        ask(signal.SIGTERM)
    assert found.number == signal.SIGTERM
    with pytest.raises(SystemExit, match="143"), raise_interruption():
        ask(signal.SIGTERM)


def test_at_once_raises_and_tells_what_came_before() -> None:
    with pytest.raises(SystemExit), defer_interruption() as found, found.at_once():
        ask(signal.SIGTERM)
    with defer_interruption() as found:
        ask(signal.SIGTERM)
        with pytest.raises(SystemExit, match="143"), found.at_once():
            raise AssertionError("never begun")


def test_handlers_come_back_and_what_was_ignored_stays_so() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    before = signal.getsignal(signal.SIGTERM)
    with defer_interruption() as found:
        ask(signal.SIGINT)
    assert found.number is None
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == (signal.SIG_IGN, before)


def test_a_process_without_a_say_ignores_both() -> None:
    leave_signals_to_parent()
    ask(signal.SIGINT)
    ask(signal.SIGTERM)


WORKERS = """
import sys, time
from pathlib import Path
from soups.core.signals import defer_interruption
from soups.runtime.workers import run_all

def work(name):
    with defer_interruption() as found:
        Path(name).touch()
        while found.number is None:
            time.sleep(0.01)
        time.sleep(0.2)  # Its state takes a moment.
        Path(name + ".saved").touch()
        raise found.exception()

if __name__ == "__main__":
    from soups.core.signals import raise_interruption
    with raise_interruption():
        list(run_all(work, sys.argv[1:], jobs=2))
"""


def test_workers_may_save_when_the_command_is_asked_to_leave(tmp_path: Path) -> None:
    script, names = tmp_path / "script.py", [str(tmp_path / name) for name in ("one", "two")]
    script.write_text(WORKERS)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen([sys.executable, str(script), *names], env=environment, stderr=subprocess.PIPE) as process:
        latest = time.monotonic() + 600
        while not all(Path(name).exists() for name in names) and time.monotonic() < latest:
            time.sleep(0.02)
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=600)
    assert process.returncode == 143, said
    assert all(Path(f"{name}.saved").exists() for name in names)
