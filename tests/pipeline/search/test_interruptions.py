"""Interrupted searches and several processes of one search: every trial exists once, with equal results."""

from collections.abc import Callable
from multiprocessing.context import ForkServerContext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from soups.pipeline.search import search as searching
from soups.runtime import workers as launch
from tests.pipeline.searching import SearchBench, started

ErrorOf = Callable[[], str]


@pytest.mark.parametrize("moment", ["training", "recording"])
def test_resuming_gives_equal_results(
    searched: SearchBench, fresh: SearchBench, moment: str, monkeypatch: pytest.MonkeyPatch, error_of: ErrorOf
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
        assert fresh.search() == 130
        assert len(fresh.models()) == (1 if moment == "training" else 2)
    # Settings that are not given take their recorded values.
    assert fresh.script("--name", "toys", "--trials", "3") == 0
    assert "trial 1: its process ended before it was finished" in error_of()
    assert fresh.models() == searched.models() and fresh.rows() == searched.rows()


def test_another_process_resumes_a_killed_process_s_trial(
    searched: SearchBench,
    fresh: SearchBench,
    processes: ForkServerContext,
    monkeypatch: pytest.MonkeyPatch,
    error_of: ErrorOf,
) -> None:
    other = started(processes, fresh, stopped="hangs")
    killed = []

    def kill_instead(seconds: float) -> None:
        killed.append(other.pid)
        other.kill()
        other.join()

    monkeypatch.setattr(searching, "time", SimpleNamespace(sleep=kill_instead))
    assert fresh.search() == 0
    assert killed == [other.pid] and other.exitcode == -9
    output = error_of()
    assert "trial 1 of 3" in output and "trial 2 of 3" in output
    waiting = output.index("waiting for other processes to finish trials 0")
    assert output.index("trial 0: its process ended before it was finished; resuming it") > waiting
    assert fresh.models() == searched.models() and fresh.rows() == searched.rows()


def test_two_processes_give_the_models_of_one(
    searched: SearchBench, fresh: SearchBench, processes: ForkServerContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launch.multiprocessing, "get_context", lambda method: processes)
    assert fresh.search("--jobs", "2", "--search-sampler", "random") == 0
    # The estimator draws the first ten trials at random too, so their order does not matter.
    assert fresh.models() == searched.models()
