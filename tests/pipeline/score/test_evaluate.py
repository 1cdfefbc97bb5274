"""Scores of a run's models: what a log line holds, which models are scored again, and what remote machines get."""

import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from soups.core.errors import DataError, PartialFailure
from soups.files.jsonl import read_records
from soups.pipeline.score import evaluate
from soups.pipeline.score.context import RunContext
from soups.pipeline.score.transfer import RemoteResult
from soups.runtime.launchers import LaunchSettings
from tests.pipeline.small_run import make_context, make_run

SCORES = {"val": {"accuracy": 0.5, "log_loss": 1.0}}


@pytest.fixture
def context(tmp_path: Path) -> RunContext:
    return make_context(make_run(tmp_path))


def line_of(task: tuple[RunContext, Path]) -> dict[str, Any]:
    """The log line of a model that is not really scored."""
    context, path = task
    if path.stem.startswith("p10_"):
        raise DataError(f"{path.name}: damaged")
    return evaluate.result_line(context, path.stem, SCORES, sha256=context.run.sha256(path))


def test_a_line_has_the_accuracy_of_each_set_and_all_metrics(context: RunContext) -> None:
    line = evaluate.result_line(context, "m", SCORES, recipe="greedy")
    assert line == {
        "model_name": "m",
        "val": 0.5,
        "metrics": SCORES,
        "split": context.run.fingerprints[1],
        "recipe": "greedy",
    }
    assert evaluate.accuracies_text(line) == "val 50.0%"


def test_a_line_is_appended_once(context: RunContext) -> None:
    line = evaluate.result_line(context, "m", SCORES)
    for _ in range(2):
        evaluate.append_if_new(context.run, line)
    evaluate.append_if_new(context.run, {**line, "val": 0.6})
    assert [each["val"] for each in read_records(context.run.soup_results)] == [0.5, 0.6]


def test_a_run_without_fine_tunes(context: RunContext) -> None:
    run = replace(context.run, only=frozenset())
    with pytest.raises(DataError, match=r"no fine-tunes of run 'p'\n(?s:.*)python finetune\.py --name p --i"):
        evaluate.pool_paths(run)


def test_models_are_scored_once_and_failures_do_not_stop_the_others(
    context: RunContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluate, "score_model", line_of)
    with pytest.raises(PartialFailure, match=r"1 of 4 models could not be scored\n  p10_epochs2\.safetensors: damaged"):
        evaluate.evaluate_individuals(context)
    logged = [line["model_name"] for line in read_records(context.run.individual_results)]
    assert sorted(logged) == ["p0_epochs2", "p1_epochs2", "p_start"]
    with pytest.raises(DataError, match=r"^p10_epochs2\.safetensors: damaged$"):
        evaluate.evaluate_individuals(context)
    others = replace(context, run=replace(context.run, only=frozenset({"p0_epochs2", "p1_epochs2"})))
    assert set(evaluate.evaluate_individuals(others)) == {"p0_epochs2", "p1_epochs2"}
    assert len(read_records(context.run.individual_results)) == 3


def test_a_remote_machine_gets_settings_and_the_model_and_unpacks_the_run(
    context: RunContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[Any] = []

    class Remote:
        def run_all(self, function: Any, items: Any, common: Any) -> Any:
            for item in items:
                copy = pickle.loads(pickle.dumps(item))  # As on its way to another machine.
                sent.append(copy)
                yield item, function(copy, common)

    def score(task: Any, common: Any) -> RemoteResult:
        assert common == {"settings.yaml": b""}
        return RemoteResult({"model_name": task[1].name}, {})

    monkeypatch.setattr(evaluate, "make_launcher", lambda launch, runtime: Remote())
    monkeypatch.setattr(evaluate.transfer, "pack_run", lambda run: {"settings.yaml": b""})
    monkeypatch.setattr(evaluate, "_score_unpacked", score)
    context = replace(context, launch=LaunchSettings(launcher="ray", no_shared_storage=True))
    path = context.run.models / "p1_epochs2.safetensors"
    assert len(context.run.samples) > 0  # The run caches its table, which is not sent with each model.
    ((task, line),) = evaluate._run_scoring(context, [path])
    assert task[1] == path and line == {"model_name": path.name}
    ((sent_context, sent_path, content),) = sent
    assert content == path.read_bytes() and sent_path == path
    assert sent_context.runtime == context.runtime and sent_context.evaluation == context.evaluation
    assert sent_context.cache == context.cache and sent_context.run.name == "p"
    assert sent_context.run.table is None and "samples" not in vars(sent_context.run)
