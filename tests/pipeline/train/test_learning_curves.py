"""Learning curves of a run: fine-tunes without a log are left out, and figures are drawn again only if needed."""

import os
from pathlib import Path

import pytest

from soups.checkpoints.checkpoint import write_checkpoint
from soups.files.atomic import fingerprint
from soups.files.jsonl import append_record
from soups.pipeline.settings.commands import FinetuneSettings
from soups.pipeline.train.learning_curves import draw_learning_curves
from soups.pipeline.train.plan import Task
from soups.training.settings import TrainingSettings
from tests.pipeline.small_run import CARD, RUNTIME, make_run


def test_fine_tunes_with_a_log_are_drawn(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    run = make_run(tmp_path)
    assert not draw_learning_curves(run, "accuracy", each=True)
    assert "p0: no log of this training; its curve is left out" in caplog.text
    settings = FinetuneSettings(training=TrainingSettings(epochs=2))
    record = Task(1, settings.training, settings, "p", RUNTIME).record
    model = run.models / "p1_epochs2.safetensors"
    write_checkpoint(model, {}, CARD.model_copy(update={"kind": "fine-tune", "training": record}))
    scores = {"accuracy": 0.5, "macro_f1": 0.5, "log_loss": 0.7}
    for epoch in (1, 2):
        line = {"epoch": epoch, "phase": "all", "loss": 1 / epoch, "lr": 1e-3, "images_per_second": 1.0, "val": scores}
        append_record(run.training_log(1), {"settings": fingerprint(record), **line})
    folder = run.folder / "figures" / "learning_curves"
    assert draw_learning_curves(run, "accuracy", each=True)
    assert [path.name for path in folder.iterdir()] == ["p1.png"]
    assert capsys.readouterr().out.split() == [str(folder), f"{folder}.png"]
    drawn = (folder / "p1.png").stat().st_mtime_ns
    draw_learning_curves(run, "accuracy", each=True)
    assert (folder / "p1.png").stat().st_mtime_ns == drawn
    os.utime(model, ns=(drawn + 10**9, drawn + 10**9))
    draw_learning_curves(run, "accuracy", each=True)
    assert (folder / "p1.png").stat().st_mtime_ns != drawn
