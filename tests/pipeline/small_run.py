"""A run of tiny checkpoints without training: two classes, three fine-tunes, a table of four images."""

from pathlib import Path
from typing import Any

import pandas as pd
import torch

from soups.checkpoints.card import Architecture
from soups.checkpoints.checkpoint import Card, write_checkpoint
from soups.core.preprocessing import Preprocessing
from soups.data.settings import CacheSettings, DataSettings
from soups.evaluation.settings import EvaluationSettings
from soups.models.settings import ModelSettings
from soups.pipeline.run.run import Run
from soups.pipeline.run.run_settings import RecordedSettings
from soups.pipeline.score.context import RunContext
from soups.runtime.devices import Runtime

CARD = Card(
    kind="start",
    architecture=Architecture(family="timm", name="toy"),
    classes=("cat", "dog"),
    preprocessing=Preprocessing(size=4, mean=(0, 0, 0), std=(1, 1, 1)),
)
RUNTIME = Runtime(precision="fp32", threads=1)


def recorded_settings(**values: Any) -> RecordedSettings:
    """Returns the recorded settings of a run of plain labels."""
    settings = {"metric": "accuracy", "precision": "fp32", "threads": 1, **values}
    return RecordedSettings.model_validate({"data": DataSettings(), "model": ModelSettings(), **settings})


def make_run(folder: Path, name: str = "p") -> Run:
    """Returns a run below `folder` with a start and the fine-tunes p0_epochs2, p1_epochs2 and p10_epochs2."""
    rows = [("a.png", "cat", "1", "train"), ("b.png", "dog", "2", "train")]
    rows += [("c.png", "dog", "3", "val"), ("d.png", "cat", "4", "val")]
    table = pd.DataFrame(rows, columns=["image", "label", "group", "split"], dtype=str)
    run = Run(folder / name, folder / name / "models", recorded_settings(), table=table)
    card = CARD.model_copy(update={"split": run.fingerprints[1]})
    start = write_checkpoint(run.start, {"w": torch.zeros(3)}, card)
    for index in (10, 0, 1):
        own = {"kind": "fine-tune", "start": start, "training": {"index": index, "epochs": 2}}
        path = run.models / f"{name}{index}_epochs2.safetensors"
        write_checkpoint(path, {"w": torch.full((3,), 1.0 + index)}, card.model_copy(update=own))
    return run


def make_context(run: Run) -> RunContext:
    """Returns the context of a run on the CPU."""
    return RunContext(run, RUNTIME, EvaluationSettings(), CacheSettings())
