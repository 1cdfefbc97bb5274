"""Benchmarks of small parts of the toolkit, each as ratios to a named baseline within a turn: median and range."""

import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from pydantic import BaseModel, ConfigDict, Field

from soups.cli import outcome
from soups.cli.flags import ParsedSettings

Part = tuple[str, Callable[[], object], str, Callable[[], object]]
"""(name, call, baseline's name, baseline's call)."""


class BenchSettings(BaseModel):
    """Ratios of the toolkit's time to a baseline's: loader, intervals, splits, image cache, building, the block."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    repeats: int = Field(default=7, gt=0)
    """Turns; both sides are measured once per turn, and the ratio is taken within the turn."""
    short: bool = False
    """Small sizes and two turns: shows only that the benchmark works."""


def main(argv: Sequence[str] | None = None) -> int:
    """Parse, measure, and return the exit code."""
    return outcome.run(BenchSettings, bench, argv)


def bench(parsed: ParsedSettings[BenchSettings]) -> None:
    """Print a line for each part."""
    short = parsed.settings.short
    repeats = 2 if short else parsed.settings.repeats
    with TemporaryDirectory(prefix="soups-bench-") as folder:
        for make in (loader_parts, interval_part, split_part, curation_part, cache_part, block_part, building_part):
            for name, call, baseline, reference in make(10 if short else 1, Path(folder)):
                ratios, seconds = [], []
                for turn in range(repeats + 1):
                    ours, theirs = elapsed(call), elapsed(reference)
                    if turn:  # The first turn warms up.
                        ratios.append(ours / theirs)
                        seconds.append(ours)
                low, high = min(ratios), max(ratios)
                print(
                    f"{name} / {baseline}: {median(ratios):.2f} ({low:.2f} to {high:.2f}); {median(seconds):.4f} s",
                    flush=True,
                )


def elapsed(call: Callable[[], object]) -> float:
    """Return the seconds that a call takes."""
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def loader_parts(divisor: int, folder: Path) -> list[Part]:
    """An epoch of the training loader from memory, against the same augmentation in a plain loop."""
    import numpy as np

    from soups.data.augment.augment import Augmentation
    from soups.data.augment.crops import RandomCrop
    from soups.data.augment.rand_augment import RandAugment
    from soups.data.images.cache import Images
    from soups.data.images.geometry import Geometry
    from soups.data.loader import TrainingLoader

    count = max(64, 2048 // divisor)
    pixels = np.random.default_rng(0).integers(0, 256, (count, 37, 37, 3), dtype=np.uint8)

    class InMemory(Images):
        def __getitem__(self, index: int) -> np.ndarray:
            return pixels[index]

    images = InMemory([Path(str(index)) for index in range(count)], Geometry(37, 37))
    parts: list[Part] = []
    for name, rand_augment in (("crop", None), ("crop and RandAugment", "rand-m9-n2")):
        steps: list[Any] = [RandomCrop(32), *([RandAugment(rand_augment, 32)] if rand_augment else [])]
        augmentation = Augmentation(32, tuple(steps))
        loader = TrainingLoader(images, np.zeros(count), np.arange(count), augmentation, 64, 0)
        parts.append(
            (
                f"training loader, {count} images, {name}",
                lambda loader=loader: list(loader.epoch(1)),  # type: ignore[misc]
                "its augmentation in a loop",
                lambda augmentation=augmentation: [augmentation(image, seed) for seed, image in enumerate(pixels)],  # type: ignore[misc]
            )
        )
    return parts


def interval_part(divisor: int, folder: Path) -> list[Part]:
    """A bootstrap interval over five sets, against ten resamples of each by indexing."""
    import numpy as np

    from soups.core.statistics import bootstrap_mean_interval

    count = 50_000 // divisor
    values = (np.arange(count) % 10 > 0).astype(float)
    draws = np.random.default_rng(0)

    def ten_resamples() -> None:
        for _ in range(50):
            values[draws.integers(0, count, count)].mean()

    ours = (f"bootstrap interval of 5 × {count} images", lambda: bootstrap_mean_interval([(values, None)] * 5))
    return [(*ours, "ten resamples of each by indexing", ten_resamples)]


def split_part(divisor: int, folder: Path) -> list[Part]:
    """A grouped, stratified split, against scikit-learn's stratified split without groups."""
    import numpy as np
    import pandas as pd
    from sklearn.model_selection import train_test_split

    from soups.data.split import split_samples

    count = 30_000 // divisor
    names = [str(index) for index in range(count)]
    labels = [f"c{index % 100}" for index in range(count)]
    table = pd.DataFrame({"image": names, "label": labels, "group": names, "split": ""}, dtype=str)
    reference = lambda: train_test_split(np.arange(count), test_size=0.2, stratify=labels, random_state=0)  # noqa: E731
    ours = (f"split of {count} images", lambda: split_samples(table, 0.2, 0))
    return [(*ours, "train_test_split of scikit-learn, stratified", reference)]


def curation_part(divisor: int, folder: Path) -> list[Part]:
    """Selecting similar images, against the matrix product of all pairs."""
    import numpy as np

    from soups.data.curate import select_similar

    draws = np.random.default_rng(0)

    def unit(rows: int) -> np.ndarray:
        features = draws.normal(size=(rows, 256)).astype(np.float32)
        return features / np.linalg.norm(features, axis=1, keepdims=True)

    pool, target = unit(4000 // divisor), unit(1000 // divisor)
    name = f"selecting {500 // divisor} of {len(pool)} images for {len(target)}"
    select = lambda: select_similar(pool, target, target, 500 // divisor, 0.99)  # noqa: E731
    return [(name, select, "the matrix product of all pairs", lambda: pool @ target.T)]


def cache_part(divisor: int, folder: Path) -> list[Part]:
    """Opening a cached set of images, against asking for the status of each file."""
    import numpy as np
    from PIL import Image

    from soups.data.images.cache import open_images
    from soups.data.images.geometry import Geometry

    data = folder / "images"
    data.mkdir()
    paths = [data / f"{index:04}.png" for index in range(1800 // divisor)]
    Image.fromarray(np.zeros((12, 12, 3), dtype=np.uint8)).save(paths[0])
    for path in paths[1:]:
        path.hardlink_to(paths[0])
    opened = lambda: open_images(paths, Geometry(10, 8), "auto", folder / "cache")  # noqa: E731
    opened()
    return [(f"opening {len(paths)} cached images", opened, "stat of each", lambda: [path.stat() for path in paths])]


def building_part(divisor: int, folder: Path) -> list[Part]:
    """An empty image tower of ViT-B/32, against open_clip's whole model without weights."""
    import open_clip

    from soups.models.build import build_empty, describe
    from soups.models.settings import ModelSettings

    name = "RN50" if divisor > 1 else "ViT-B-32-quickgelu"
    architecture, _ = describe(ModelSettings(model=name, pretrained="none"))
    build = lambda: build_empty(architecture, ("a", "b"))  # noqa: E731
    create = lambda: open_clip.create_model(name, pretrained=None)  # noqa: E731
    return [(f"building an empty {name}", build, "open_clip.create_model without weights", create)]


def block_part(divisor: int, folder: Path) -> list[Part]:
    """The block that a start prints first, against reading the table of its images."""
    import numpy as np
    import pandas as pd

    from soups.data.settings import DataSettings
    from soups.files.tables import read_table
    from soups.models.settings import ModelSettings
    from soups.pipeline.run.run import Run
    from soups.pipeline.run.run_settings import RecordedSettings
    from soups.pipeline.settings.commands import FinetuneSettings
    from soups.pipeline.train.announce import announcement
    from soups.pipeline.train.plan import plan
    from soups.runtime.devices import RuntimeSettings, resolve
    from soups.training.settings import TrainingSettings

    count = 100_000 // divisor
    names = [f"train/c{index % 1000}/{index:06}.png" for index in range(count)]
    split = np.where(np.arange(count) % 5, "train", "val")
    labels = [f"c{index % 1000}" for index in range(count)]
    samples = pd.DataFrame({"image": names, "label": labels, "group": names, "split": split}, dtype=str)
    samples.to_csv(folder / "samples.csv", index=False)
    runtime = resolve(RuntimeSettings(device="cpu", precision="fp32", threads=1))
    data, model = DataSettings(data_location="data", layout="folder"), ModelSettings(model="baseline", image_size=32)
    recorded = RecordedSettings(data=data, model=model, metric="accuracy", precision="fp32", threads=1)
    settings = FinetuneSettings(training=TrainingSettings(hparams="random"))

    def print_block() -> None:
        run = Run(folder / "p", folder / "p" / "models", recorded, table=samples)
        announcement(run, runtime, plan(run, settings, runtime, range(72)), [])

    read = lambda: read_table(folder / "samples.csv")  # noqa: E731
    return [(f"block before training, {count} images, 72 fine-tunes", print_block, "reading the table of images", read)]


if __name__ == "__main__":
    raise SystemExit(main())
