"""Progress reports in a log."""

import io
import time

import pytest

from soups.core import progress


@pytest.mark.parametrize(("total", "words"), [(None, "reading: 2 of 3"), (5, "reading: 2 of 5")])
def test_progress_is_logged_with_the_total(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, total: int | None, words: str
) -> None:
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0.0)
    with caplog.at_level("INFO", logger="soups"):
        assert list(progress.track([1, 2, 3], "reading", total)) == [1, 2, 3]
    assert len(caplog.messages) == 3 and caplog.messages[1] == words


def test_progress_without_a_known_total(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0.0)
    with caplog.at_level("INFO", logger="soups"):
        assert list(progress.track(iter("ab"), "reading")) == ["a", "b"]
    assert caplog.messages == ["reading: 1", "reading: 2"]


def test_fast_work_logs_nothing(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 1e9)
    with caplog.at_level("INFO", logger="soups"):
        assert list(progress.track([1, 2], "reading")) == [1, 2]
    assert caplog.messages == []


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def _work() -> None:
    """Follow work of which one piece more is done whenever it is asked for, up to three of five."""

    def count() -> float:
        asked.append(1)
        return float(min(len(asked), 3))

    asked: list[int] = []
    with progress.follow(count, 5, "pool", "epochs"):
        while len(asked) < 6:
            time.sleep(0.001)


def test_work_of_other_processes_is_logged_with_the_time_left(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0.001)
    with caplog.at_level("INFO", logger="soups"):
        _work()
    assert caplog.messages[0].startswith("pool: 2 of 5 epochs, about 0 s left")
    assert caplog.messages[-1].startswith("pool: 3 of 5 epochs")


def test_work_of_other_processes_is_one_live_line_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = _Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setattr(progress, "_SECONDS_BETWEEN_UPDATES", 0.001)
    _work()
    assert "3 of 5 epochs" in terminal.getvalue() or "2 of 5 epochs" in terminal.getvalue()


@pytest.mark.parametrize(
    ("seconds", "text"), [(4.4, "4 s"), (89, "89 s"), (125, "2 min"), (3599, "1 h 00 min"), (7500, "2 h 05 min")]
)
def test_durations(seconds: float, text: str) -> None:
    assert progress.format_duration(seconds) == text
