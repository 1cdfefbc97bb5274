"""Progress reports in a log."""

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
