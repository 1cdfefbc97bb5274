"""The log of a fine-tune's epochs: lines are written once, and an epoch reads as text."""

from pathlib import Path
from typing import Any

import pytest

from soups.files.atomic import fingerprint
from soups.files.jsonl import read_records
from soups.pipeline.run.run_settings import record_run
from soups.pipeline.settings.commands import FinetuneSettings
from soups.pipeline.train.epoch_log import EpochLog, format_epoch, tail_of_log
from soups.pipeline.train.plan import Task
from soups.training.settings import TrainingSettings
from tests.pipeline.small_run import RUNTIME, make_run


def epoch(number: int, loss: float = 0.5, speed: float = 9.0) -> dict[str, Any]:
    return {"epoch": number, "loss": loss, "images_per_second": speed}


def test_equal_epochs_are_logged_once(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    log = EpochLog(path, "these")
    for line in (epoch(1), epoch(2)):
        log.append(line)
    again = EpochLog(path, "these")
    for line in (epoch(1, speed=3.0), epoch(2, loss=0.4)):
        again.append(line)
    EpochLog(path, "others").append(epoch(1))
    assert [(line["settings"], line["epoch"], line["loss"]) for line in read_records(path)] == [
        ("these", 1, 0.5),
        ("these", 2, 0.5),
        ("these", 2, 0.4),
        ("others", 1, 0.5),
    ]


@pytest.mark.parametrize(
    ("metric", "text"),
    [
        ("accuracy", "p3: epoch 2 of 5, loss 0.5000, validation accuracy 75.0%, 9 images/s"),
        ("macro_f1", "p3: epoch 2 of 5, loss 0.5000, validation accuracy 75.0%, macro f1 0.7000, 9 images/s"),
    ],
)
def test_an_epoch_as_text(metric: str, text: str) -> None:
    line = {**epoch(2), "val": {"accuracy": 0.75, "macro_f1": 0.7}}
    settings = FinetuneSettings.model_validate({"evaluation": {"metric": metric}})
    assert format_epoch(Task(3, TrainingSettings(epochs=4, lp_epochs=1), settings, "p", RUNTIME), line) == text
    plain = Task(3, TrainingSettings(epochs=5), settings, "p", RUNTIME)
    assert format_epoch(plain, epoch(2)) == "p3: epoch 2 of 5, loss 0.5000, 9 images/s"


def test_the_end_of_the_log_of_these_settings(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    record_run(run.folder, run.recorded)
    settings = FinetuneSettings.model_validate({"run": {"runs_folder": str(tmp_path)}})
    task = Task(3, settings.training, settings, "p", RUNTIME)
    assert tail_of_log(task) == ""
    key = fingerprint(task.record)
    for number in range(1, 6):
        EpochLog(run.training_log(3), key if number < 5 else "others").append(epoch(number))
    lines = tail_of_log(task).strip().splitlines()
    assert lines[0].endswith("p3.jsonl:") and [line.split(",")[0].strip() for line in lines[1:]] == [
        "p3: epoch 2 of 10",
        "p3: epoch 3 of 10",
        "p3: epoch 4 of 10",
    ]
