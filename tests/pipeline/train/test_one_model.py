"""One fine-tune of a run: the card fields of its course, and another process that finished it."""

from pathlib import Path
from typing import Any

import pytest

from soups.checkpoints.checkpoint import write_checkpoint
from soups.pipeline.run.run_settings import record_run
from soups.pipeline.settings.commands import FinetuneSettings
from soups.pipeline.train import one_model
from soups.pipeline.train.plan import Task
from soups.runtime.process_group import SINGLE_PROCESS, ProcessGroup
from soups.training.finetune import FinetuneResult
from tests.pipeline.small_run import CARD, RUNTIME, make_run


@pytest.mark.parametrize(
    ("result", "group", "fields"),
    [
        (FinetuneResult({}, {}), SINGLE_PROCESS, {}),
        (FinetuneResult({}, {}, 4), SINGLE_PROCESS, {"micro_batch_size": 4}),
        (FinetuneResult({}, {}), ProcessGroup(size=2), {"processes": 2}),
        (FinetuneResult({}, {}), ProcessGroup(size=2, sharded=True), {"processes": 2, "sharded": True}),
    ],
)
def test_fields_of_the_course(result: FinetuneResult, group: ProcessGroup, fields: dict[str, Any]) -> None:
    assert one_model._course_fields(RUNTIME, result, group) == {"device": "cpu", **fields}


def test_a_model_that_another_process_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    run = make_run(tmp_path)
    record_run(run.folder, run.recorded)
    settings = FinetuneSettings.model_validate({"run": {"runs_folder": str(tmp_path)}})
    task = Task(7, settings.training, settings, "p", RUNTIME)
    path = run.models / "p7_epochs10.safetensors"
    trained: list[Path] = []
    monkeypatch.setattr(one_model, "_train_and_write", lambda task, run, path, *rest: trained.append(path))
    write_checkpoint(
        path, {}, CARD.model_copy(update={"kind": "fine-tune", "training": {**task.record, "device": "cuda"}})
    )
    caplog.set_level("INFO")
    assert one_model.train_one(task) == path and not trained
    assert "p7_epochs10.safetensors: finished by another process in the meantime" in caplog.text
    write_checkpoint(path, {}, CARD.model_copy(update={"kind": "fine-tune", "training": {**task.record, "lr": 1.0}}))
    assert one_model.train_one(task) == path and trained == [path]
