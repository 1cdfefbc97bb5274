"""Training costs are measured once for the same conditions."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from soups.core.errors import DataError
from soups.files.atomic import write_table
from soups.files.jsonl import read_records
from soups.pipeline.run.run_settings import record_run
from soups.pipeline.settings.commands import FinetuneSettings
from soups.pipeline.train import costs
from soups.pipeline.train.plan import Task
from soups.training.settings import TrainingSettings
from tests.pipeline.small_run import RUNTIME, make_run

FOUND = {"parameters": 3, "trainable": 3, "multiply_adds": 9, "seconds_per_epoch": 0.5, "peak_memory": None}


class FakePool:
    """Runs nothing."""

    def __init__(self, number: int) -> None:
        pass

    def submit(self, function: Any, task: Task) -> Task:
        return task

    def __enter__(self) -> "FakePool":
        return self

    def __exit__(self, *error: object) -> None:
        pass


def test_costs_are_measured_once_per_condition(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make_run(tmp_path)
    record_run(run.folder, run.recorded)
    write_table(run.folder / "samples.csv", run.samples)
    settings = FinetuneSettings.model_validate({"run": {"runs_folder": str(tmp_path)}})
    task = Task(0, settings.training, settings, "p", RUNTIME)
    results: list[Any] = [FOUND, {**FOUND, "multiply_adds": 10}, DataError("b.png: gone")]
    monkeypatch.setattr(costs, "WorkerPool", FakePool)
    monkeypatch.setattr(costs, "wait_for_result", lambda future, next_step: results.pop(0))
    assert [costs.measure_costs(task) for _ in range(2)] == [FOUND, FOUND]
    assert costs.measure_costs(replace(task, training=TrainingSettings(lr=0.1, epochs=99))) == FOUND
    larger = replace(task, training=TrainingSettings(batch_size=128))
    assert costs.measure_costs(larger)["multiply_adds"] == 10
    assert len(read_records(run.folder / "logs" / "costs.jsonl")) == 2
    with pytest.raises(DataError, match=r"b\.png: gone"):
        costs.measure_costs(replace(task, training=TrainingSettings(mix=0.5)))
