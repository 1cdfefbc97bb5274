"""Trials of a search among dying processes: claimed once, repeated unchanged, complete in the journal."""

import json
import logging
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from optuna.distributions import FloatDistribution
from optuna.storages import RDBStorage
from optuna.trial import TrialState

from soups.core.errors import EnvironmentFailure, UsageError
from soups.pipeline.search.storage import JOURNAL, KernelLock, open_storage
from soups.pipeline.search.trials import Trials, open_trials

DIES_WRITING = """
import sys, time
from pathlib import Path
from soups.pipeline.search.storage import JOURNAL, KernelLock
from soups.pipeline.search.trials import open_trials
from tests.pipeline.search.test_trials import propose
folder = Path(sys.argv[1])
trials = open_trials("toys", folder, None)
trials.create_study("maximize", {"a": 1})
with trials.claim(2, propose) as trial:
    trials.report(trial, 1, 0.5)
    KernelLock(folder / JOURNAL).acquire()
    with (folder / JOURNAL).open("ab") as stream:
        stream.write(b'{"op_code": 7, "worker')
    print(trial.params["x"], flush=True)
    time.sleep(600)
"""


def propose(study: Any, number: int) -> tuple[dict[str, Any], dict[str, Any]]:
    return {"x": 0.25 + number}, {"x": FloatDistribution(0, 99)}


def opened(folder: Path) -> Trials:
    trials = open_trials("toys", folder, None)
    trials.create_study("maximize", {"a": 1})
    return trials


def test_each_trial_is_claimed_once(tmp_path: Path) -> None:
    trials = opened(tmp_path)
    with trials.claim(2, propose) as first, opened(tmp_path).claim(2, propose) as second:
        assert first is not None and second is not None
        assert (first.number, second.number, second.params) == (0, 1, {"x": 1.25})
        with opened(tmp_path).claim(2, propose) as third:
            assert third is None
        trials.finish(first, TrialState.COMPLETE, 0.5, model="toys0")
    with trials.claim(2, propose) as again:  # The second trial was not finished.
        assert again is not None and (again.number, again.params) == (1, {"x": 1.25})
        trials.finish(again, TrialState.PRUNED, note="slow")
    trials.finish(first, TrialState.FAIL)
    assert [trial.state for trial in trials.all()] == [TrialState.COMPLETE, TrialState.PRUNED]
    assert trials.all()[0].user_attrs["model"] == "toys0" and trials.recorded_settings() == {"a": 1}


def test_a_lost_heartbeat_does_not_end_the_trial(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(storage: RDBStorage, trial_id: int) -> None:
        raise RuntimeError("no connection\nin this session")

    trials = open_trials("toys", tmp_path, f"sqlite:///{tmp_path / 'trials.db'}")
    trials.create_study("maximize", {"a": 1})
    monkeypatch.setattr(RDBStorage, "record_heartbeat", refuse)
    with trials.claim(1, propose) as trial:
        assert trial is not None
        trials.finish(trial, TrialState.COMPLETE, 0.5)
    assert [trial.state for trial in trials.all()] == [TrialState.COMPLETE]
    assert set(caplog.messages) == {"the database did not record a heartbeat: no connection"}


def test_the_journal_has_a_lock_that_ends_with_its_holder(tmp_path: Path) -> None:
    """Optuna's own lock outlives its holder for half a minute."""
    storage: Any = open_storage(tmp_path, None)
    assert isinstance(storage._backend._lock, KernelLock)
    assert storage._backend._file_path == str(tmp_path / JOURNAL)


def test_a_process_that_is_killed_while_it_writes(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    code = [sys.executable, "-c", DIES_WRITING, str(tmp_path)]
    with subprocess.Popen(code, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[3]) as process:
        assert process.stdout is not None and process.stdout.readline() == "0.25\n"
        os.kill(process.pid, signal.SIGKILL)
    trials = open_trials("toys", tmp_path, None)
    with trials.claim(2, propose) as trial:
        assert trial is not None and (trial.number, trial.params, trial.intermediate_values) == (
            0,
            {"x": 0.25},
            {1: 0.5},
        )
        trials.finish(trial, TrialState.COMPLETE, 1.0)
    assert caplog.text.count("removed a last line that a crash had cut off") == 1
    assert "trial 0: its process ended before it was finished" in caplog.text
    lines = (tmp_path / "study.journal").read_text().splitlines()
    assert all(isinstance(json.loads(line), dict) for line in lines)
    assert [trial.state for trial in open_trials("toys", tmp_path, None).all()] == [TrialState.COMPLETE]


@pytest.mark.parametrize(
    ("url", "kind", "words"),
    [
        ("nonsense", UsageError, ["--storage nonsense", "postgresql://USER:PASSWORD@HOST/NAME"]),
        ("oracle://me:secret@host/name", EnvironmentFailure, ["oracle://me:***@host/name", "driver is not installed"]),
        ("sqlite:////nowhere/at/all.db", EnvironmentFailure, ["the database does not respond", "unable to open"]),
    ],
)
def test_unreachable_storages(tmp_path: Path, url: str, kind: type[Exception], words: list[str]) -> None:
    with pytest.raises(kind) as caught:
        open_trials("toys", tmp_path, url)
    message = str(caught.value)
    assert all(word in message for word in words), message
    assert "secret" not in message
