"""Fine-tunes on other machines: each result is stored as it arrives, and errors are passed on."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from soups.checkpoints.checkpoint import write_checkpoint
from soups.core.errors import DataError
from soups.data.settings import DataSettings
from soups.files.atomic import write_table
from soups.pipeline.run.run_settings import record_run
from soups.pipeline.settings.commands import FinetuneSettings
from soups.pipeline.train.plan import Task
from soups.pipeline.train.remote import train_remotely
from tests.pipeline.small_run import CARD, RUNTIME, make_run, recorded_settings


class SameMachine:
    """A launcher that calls the function here, as a remote machine would."""

    def run_all(self, function: Callable[..., Any], items: Sequence[Any], common: Any) -> Iterator[tuple[Any, Any]]:
        for item in items:
            try:
                yield item, function(item, common)
            except DataError as error:
                yield item, error


def train(task: Task) -> Path:
    """Write a checkpoint and a log line of a fine-tune in the run of the task."""
    if task.index == 8:
        raise DataError("b.png: gone")
    run = task.open_run()
    run.training_log(task.index).parent.mkdir(parents=True, exist_ok=True)
    run.training_log(task.index).write_text('{"epoch": 1}\n')
    path = run.models / f"p{task.index}_epochs3.safetensors"
    own = {"kind": "fine-tune", "training": {"index": task.index, "epochs": 3, "lr": 0.25}}
    write_checkpoint(path, {"w": torch.ones(3)}, CARD.model_copy(update=own))
    return path


def test_files_are_stored_and_replaced_models_removed(tmp_path: Path) -> None:
    run = make_run(tmp_path / "runs")
    record_run(run.folder, recorded_settings(data=DataSettings(data_location=str(tmp_path))))
    write_table(run.folder / "samples.csv", run.samples)
    settings = FinetuneSettings.model_validate({"run": {"runs_folder": str(tmp_path / "runs")}})
    old = run.models / "p1_epochs2.safetensors"
    task = Task(1, settings.training, settings, "p", RUNTIME, replaces=old)
    launcher: Any = SameMachine()
    (first, path), (_, error) = train_remotely(launcher, train, [task, replace(task, index=8, replaces=None)])
    assert first == task and path == run.models / "p1_epochs3.safetensors"
    assert run.training_log(1).read_text() == '{"epoch":1}\n' and not old.exists()
    assert "p1: {i: 1, hparams: recorded, epochs: 3, lr: 0.25}" in (run.folder / "settings.yaml").read_text()
    assert isinstance(error, DataError) and str(error) == "b.png: gone"
