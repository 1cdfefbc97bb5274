"""Benchmark of saving a fine-tune's state and resuming from it; docs/benchmarks.md shows results."""

import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from soups.cli import outcome
from soups.cli.flags import ParsedSettings
from soups.data.augment.augment import build_augmentation
from soups.data.images.cache import Images
from soups.data.images.geometry import evaluation_geometry, training_geometry
from soups.evaluation.logits import EvaluationSet
from soups.models.build import build_start
from soups.models.settings import ModelSettings
from soups.models.start import Start
from soups.pipeline.settings.commands import FinetuneSettings
from soups.runtime.devices import RuntimeSettings, resolve
from soups.training.finetune import Finetune
from soups.training.settings import TrainingSettings
from soups.training.state import MAX_SAVE_SHARE, StateFile
from soups.training.training_set import TrainingSet

MINUTES: float = FinetuneSettings.model_fields["save_minutes"].default


class StateBenchSettings(BaseModel):
    """Time the saving and the reading of a fine-tune's state, in a real training of a few steps.

    The weights are random, the images grey; the saved data are those of a fine-tune, from the device to the disk,
    written and synced.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str = "ViT-B/32"
    """Any architecture of open_clip, or timm:NAME."""
    repeats: int = Field(default=5, gt=1)
    """Number of saves."""
    batch_size: int = Field(default=8, gt=0)
    """Images per step."""
    folder: str | None = None
    """Folder of the state, on the disk of the runs. By default the system's temporary folder."""
    runtime: RuntimeSettings = RuntimeSettings()


class TimedStateFile(StateFile):
    """A state file that is saved after every step and records the seconds."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, "bench", 0)
        self.saving: list[float] = []

    def is_due(self, *, end_of_epoch: bool) -> bool:
        """Return True: save after every step."""
        return True

    def write(self, state: dict[str, Any]) -> None:
        """Write the state and record the seconds."""
        started = time.perf_counter()
        super().write(state)
        self.saving.append(time.perf_counter() - started)


def train(start: Start, folder: Path, settings: StateBenchSettings, file: StateFile) -> None:
    """Train one epoch with one step more than the number of saves."""
    from PIL import Image

    path, count = folder / "grey.png", settings.batch_size * (settings.repeats + 1)
    Image.new("RGB", (256, 256), "grey").save(path)
    values, labels = start.preprocessing, np.zeros(count, dtype=np.int64)
    images, one = Images([path] * count, training_geometry(values)), Images([path], evaluation_geometry(values))
    Finetune(
        classifier=start.classifier,
        training=TrainingSet(images, labels, np.arange(count), build_augmentation(values)),
        validation=EvaluationSet("val", one, labels[:1], np.array(["one"]), (path,)),
        settings=TrainingSettings(epochs=1, batch_size=settings.batch_size),
        index=0,
        preprocessing=values,
        metric="accuracy",
        runtime=resolve(settings.runtime),
        eval_batch_size=1,
        on_epoch=lambda line: None,
        state_file=file,
    ).run()


def command(parsed: ParsedSettings[StateBenchSettings]) -> None:
    """Measure and print."""
    settings = parsed.settings
    with tempfile.TemporaryDirectory(dir=settings.folder) as name:
        folder = Path(name)
        start = build_start(
            ModelSettings(model=settings.model, pretrained="none", head="random"), ("one", "two"), seed=0
        )
        file = TimedStateFile(folder / "fine-tune.state")
        train(start, folder, settings, file)
        size, reading = file.path.stat().st_size, list[float]()
        for _ in range(settings.repeats):
            began = time.perf_counter()
            assert StateFile(file.path, "bench", 0).read() is not None
            reading.append(time.perf_counter() - began)
    saving = file.saving[: settings.repeats]
    print(f"{settings.model} on {resolve(settings.runtime).device}: a state of {size / 1e9:.2f} GB")
    print(f"saving: {format_times(saving)}; reading: {format_times(reading)}")
    print(f"by the clock, every {MINUTES:g} minutes: {100 * median(saving) / 60 / MINUTES:.2f}% of the time")
    enough = median(saving) / MAX_SAVE_SHARE
    print(f"at ends of epochs: where an epoch takes {enough:.0f} s or more, at most {100 * MAX_SAVE_SHARE:g}%")


def format_times(seconds: list[float]) -> str:
    """Return the median and range as text."""
    return f"{median(seconds):.2f} s ({min(seconds):.2f} to {max(seconds):.2f})"


def main(argv: list[str] | None = None) -> int:
    """Parse, measure, and return the exit code."""
    return outcome.run(StateBenchSettings, command, argv)


if __name__ == "__main__":
    raise SystemExit(main())
