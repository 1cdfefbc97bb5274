"""Results of a search: the table of the best trials, all trials as CSV, and the reasons of failed ones."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
from optuna.distributions import FloatDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from soups.pipeline.search import results
from tests.pipeline.search.test_plan import plan
from tests.pipeline.small_run import make_run


def trial(number: int, state: TrialState, value: float | None = None, **attributes: str) -> FrozenTrial:
    space = {"lr": FloatDistribution(0, 1)}
    found = create_trial(
        state=state, value=value, params={"lr": 0.1 * number}, distributions=space, user_attrs=attributes
    )
    found.number = number
    return found


def test_the_best_trials_are_printed_and_all_are_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    drawn: list[str] = []
    monkeypatch.setattr(results, "draw_search_figures", lambda study, folder, text: drawn.append(text) or [])
    run = make_run(tmp_path)
    found = [
        trial(0, TrialState.COMPLETE, 0.5, model="p0_epochs2"),
        trial(1, TrialState.FAIL, note="no such start"),
        trial(2, TrialState.COMPLETE, 0.75, model="p9_epochs2"),
        trial(3, TrialState.PRUNED),
        trial(4, TrialState.RUNNING),
    ]
    trials: Any = SimpleNamespace(all=lambda: found, study=lambda: None)
    assert results.show_results(trials, plan(objective="soup"), run, "disabled") == ["trial 1: no such start"]
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "search p: 2 complete, 1 pruned, 1 failed"
    assert lines[1].split() == ["trial", "soup", "lr", "model"]
    assert lines[3].split() == ["2", "0.7500", "0.2", "p9_epochs2"]
    assert lines[4].split() == ["0", "0.5000", "0", "p0_epochs2"]
    assert lines[5].startswith("by gain of the greedy soup in validation log loss; all trials in ")
    assert drawn == ["gain of the greedy soup in validation log loss"]
    table = pd.read_csv(run.folder / "output" / "search.csv")
    assert table["state"].tolist() == ["complete", "failed", "complete", "pruned", "running"]
    assert table["kept"].tolist() == [True, False, False, False, False]


def test_a_metric_is_named_as_the_objective(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(results, "draw_search_figures", lambda *arguments: [])
    complete = [trial(0, TrialState.COMPLETE, 0.5, model="p0_epochs2")]
    trials: Any = SimpleNamespace(all=lambda: complete, study=lambda: None)
    assert results.show_results(trials, plan(objective="macro_f1"), make_run(tmp_path), "disabled") == []
    assert "by validation macro f1; all trials in" in capsys.readouterr().out
