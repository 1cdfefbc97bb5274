"""Benchmark of training a pool of demo models in parallel, on Ray and sequentially, and of the delay between models."""

import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from pydantic import BaseModel, ConfigDict, Field

from soups.cli import outcome
from soups.cli.flags import Flag, ParsedSettings, parse
from soups.core.errors import DataError
from soups.files.atomic import sha256_of
from soups.pipeline.settings.commands import FinetuneSettings

ROOT = Path(__file__).resolve().parents[2]
TOGETHER, WIDE = "two jobs of one thread", "one after the other, two threads"
ALONE = "one after the other, one thread"
"""Measured once, for the models' bytes."""
RAY = "on a Ray cluster of this machine, one thread each"
"""Runs as many models at once as there are cores."""
WAYS = {
    TOGETHER: ("--jobs", "2", "--threads", "1"),
    WIDE: ("--jobs", "1", "--threads", "2"),
    ALONE: ("--jobs", "1", "--threads", "1"),
    RAY: ("--launcher", "ray", "--threads", "1"),
}


class PoolBenchSettings(BaseModel):
    """Time a pool of demo models by whole commands: in parallel, and sequentially.

    The rows take turns, and each ratio comes from one turn. The models of two jobs with one thread each, and those of
    Ray, must have the bytes of models trained sequentially with one thread, else the script fails.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    models: int = Field(default=12, gt=1)
    """Number of models."""
    epochs: int = Field(default=16, gt=0)
    """Epochs per model."""
    repeats: int = Field(default=3, gt=0)
    """Number of turns."""
    ray: Flag = False
    """Also measure a Ray cluster, which each command starts and stops."""
    base: str | None = None
    """Folder of the CLIP start model. By default the demo's, which is made once."""
    limit: int | None = Field(default=None, gt=0)
    """Maximum number of images of each set."""


def main(argv: list[str] | None = None) -> int:
    """Parse, measure, and return the exit code."""
    return outcome.run(PoolBenchSettings, command, argv)


def command(parsed: ParsedSettings[PoolBenchSettings]) -> None:
    """Measure and print."""
    settings = parsed.settings
    data, base = run_demo_script("make_digits.py"), settings.base or run_demo_script("make_base.py")
    with tempfile.TemporaryDirectory() as folder:
        turns = []
        for turn in range(settings.repeats):
            ways = [way for way in WAYS if (turn == 0 or way != ALONE) and (settings.ray or way != RAY)]
            models = {way: train_pool(Path(folder) / str(turn), way, data, base, settings) for way in ways}
            turns.append({way: seconds for way, (seconds, _) in models.items()})
            if turn == 0:
                check_bytes({way: hashes for way, (_, hashes) in models.items()})
        gap = time_between_models(Path(folder), data, base, settings)
    print_ratios(turns, settings.models)
    print(f"from the end of a model to the first step of the next: {gap:.2f} s")


def run_demo_script(script: str) -> str:
    """Run a script of the demo; returns the data folder that it prints."""
    done = subprocess.run([sys.executable, ROOT / "scripts" / script], check=True, capture_output=True, text=True)
    return done.stdout.strip()


def finetune_flags(runs: Path, data: str, base: str, settings: PoolBenchSettings) -> list[str]:
    """Return the flags of finetune.py for a pool in a new run."""
    flags = ["--name", "digits", "--runs-folder", str(runs), "--precision", "fp32", "--device", "cpu"]
    flags += ["--data-location", data, "--model", f"local-dir:{base}", "--templates", "a photo of the digit {}"]
    flags += ["--limit", str(settings.limit)] if settings.limit else []
    flags += ["--i", f"0-{settings.models - 1}", "--epochs", str(settings.epochs), "--validate-every", "0"]
    return [*flags, "--aug", "rand-m5-n1", "--batch-size", "64"]


def train_pool(
    folder: Path, way: str, data: str, base: str, settings: PoolBenchSettings
) -> tuple[float, dict[str, str]]:
    """Train a pool in a new run; returns the seconds of the command, and name → hash of each model."""
    runs = folder / way.replace(" ", "-").replace(",", "")
    arguments = [sys.executable, str(ROOT / "finetune.py"), *finetune_flags(runs, data, base, settings), *WAYS[way]]
    began = time.perf_counter()
    done = subprocess.run(arguments, capture_output=True, text=True)
    seconds = time.perf_counter() - began
    if done.returncode:
        raise DataError(f"finetune.py ended with {done.returncode}", found=done.stderr[-2000:])
    hashes = {path.name: sha256_of(path) for path in sorted((runs / "digits" / "models").glob("*_epochs*"))}
    shutil.rmtree(runs)
    return seconds, hashes


def time_between_models(folder: Path, data: str, base: str, settings: PoolBenchSettings) -> float:
    """Return the median seconds from the end of a model to the first step of the next in one process."""
    from soups.data.loader import TrainingLoader
    from soups.pipeline.train import finetune as training

    moments: list[tuple[str, float]] = []
    epoch, train_one = TrainingLoader.epoch, training.train_one

    def first_step(self: TrainingLoader, number: int, *rest: int) -> Iterator[Any]:
        moments.append(("step", time.perf_counter()))
        yield from epoch(self, number, *rest)

    def train_and_note(task: Any) -> Path:
        path = train_one(task)
        moments.append(("end", time.perf_counter()))
        return path

    TrainingLoader.epoch, training.train_one = first_step, train_and_note  # type: ignore[method-assign, assignment]
    try:
        flags = [
            *finetune_flags(folder / "between", data, base, with_changes(settings, models=5, epochs=1)),
            "--threads",
            "1",
        ]
        training.finetune(parse(FinetuneSettings, flags, {}))
    finally:
        TrainingLoader.epoch, training.train_one = epoch, train_one  # type: ignore[method-assign]
    pairs = pairwise(moments)
    return median(after[1] - before[1] for before, after in pairs if (before[0], after[0]) == ("end", "step"))


def with_changes(settings: PoolBenchSettings, **changes: int) -> PoolBenchSettings:
    """Return the settings with changes."""
    return settings.model_copy(update=changes)


def check_bytes(models: dict[str, dict[str, str]]) -> None:
    """Check that models trained in parallel equal those trained sequentially.

    Raises:
        DataError: Models differ.
    """
    serial = models[ALONE]
    for way in (TOGETHER, RAY):
        other = models.get(way, serial)
        if other != serial:
            differing = ", ".join(name for name in serial if other.get(name) != serial[name])
            raise DataError(f"models made {way} differ from those made one after the other: {differing}")
    print(f"{len(serial)} models, the same bytes in all ways of one thread")


def print_ratios(turns: list[dict[str, float]], models: int) -> None:
    """Print the seconds of each row, and the ratio of the first to the second: median and range."""
    for way in WAYS:
        if not (times := [turn[way] for turn in turns if way in turn]):
            continue
        print(f"{way}: {median(times):.1f} s ({min(times):.1f} to {max(times):.1f})")
    ratios = [turn[TOGETHER] / turn[WIDE] for turn in turns]
    print(f"{TOGETHER} / {WIDE}: {median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")
    if extra := [2 * (turn[RAY] - turn[TOGETHER]) / models for turn in turns if RAY in turn]:
        text = f"{median(extra):.2f} s ({min(extra):.2f} to {max(extra):.2f})"
        print(f"Ray, its own start and end shared out, costs a model that is one of two at once: {text}")


if __name__ == "__main__":
    raise SystemExit(main())
