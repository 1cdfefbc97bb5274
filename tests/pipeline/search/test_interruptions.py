"""Interrupted searches and several processes of one search: every trial exists once, with equal results."""

from collections.abc import Callable
from multiprocessing.context import ForkServerContext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from soups.pipeline.search import search as searching
from soups.runtime import workers as launch
from tests.pipeline.searching import ToySearch, started

PrintedText = Callable[[], str]


@pytest.mark.parametrize("moment", ["training", "recording"])
def test_resuming_gives_equal_results(
    toy_search: ToySearch,
    unstarted_search: ToySearch,
    moment: str,
    monkeypatch: pytest.MonkeyPatch,
    printed_text: PrintedText,
) -> None:
    with monkeypatch.context() as patch:
        train_one = searching.train_one

        def interrupted(task: Any, watch: Any) -> Path:
            def stop(line: dict[str, Any]) -> None:
                raise KeyboardInterrupt

            path = train_one(task, stop if moment == "training" and task.index == 1 else watch)
            if moment == "recording" and task.index == 1:
                raise KeyboardInterrupt
            return path

        patch.setattr(searching, "train_one", interrupted)
        assert unstarted_search.search() == 130
        assert len(unstarted_search.models()) == (1 if moment == "training" else 2)
    # Settings that are not given take their recorded values.
    assert unstarted_search.script("--name", "toys", "--trials", "3") == 0
    assert "trial 1: its process ended before it was finished" in printed_text()
    assert unstarted_search.models() == toy_search.models() and unstarted_search.rows() == toy_search.rows()


def test_another_process_resumes_a_killed_process_s_trial(
    toy_search: ToySearch,
    unstarted_search: ToySearch,
    processes: ForkServerContext,
    monkeypatch: pytest.MonkeyPatch,
    printed_text: PrintedText,
) -> None:
    other = started(processes, unstarted_search, stopped="hangs")
    killed = []

    def kill_instead(seconds: float) -> None:
        killed.append(other.pid)
        other.kill()
        other.join()

    monkeypatch.setattr(searching, "time", SimpleNamespace(sleep=kill_instead))
    assert unstarted_search.search() == 0
    assert killed == [other.pid] and other.exitcode == -9
    output = printed_text()
    assert "trial 1 of 3" in output and "trial 2 of 3" in output
    waiting = output.index("waiting for other processes to finish trials 0")
    assert output.index("trial 0: its process ended before it was finished; resuming it") > waiting
    assert unstarted_search.models() == toy_search.models() and unstarted_search.rows() == toy_search.rows()


def test_two_processes_give_the_models_of_one(
    toy_search: ToySearch, unstarted_search: ToySearch, processes: ForkServerContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launch.multiprocessing, "get_context", lambda method: processes)
    assert unstarted_search.search("--jobs", "2", "--search-sampler", "random") == 0
    # The estimator draws the first ten trials at random too, so their order does not matter.
    assert unstarted_search.models() == toy_search.models()
