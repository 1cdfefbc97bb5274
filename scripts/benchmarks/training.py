"""Benchmark of fine-tuning, evaluation and the image cache against plain loops; docs/benchmarks.md shows results."""

import copy
import os
import platform
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, Literal
from unittest.mock import patch

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from soups.cli import outcome
from soups.cli.flags import Flag, ParsedSettings
from soups.core.preprocessing import normalise
from soups.core.processors import available_cores
from soups.core.progress import track
from soups.data.augment.augment import build_augmentation
from soups.data.images.cache import Images, open_images
from soups.data.images.geometry import evaluation_geometry, training_geometry
from soups.data.loader import TrainingLoader
from soups.evaluation.logits import EvaluationSet, compute_logits
from soups.files.atomic import compact_json, write_json, write_text
from soups.models.build import build_start
from soups.models.settings import ModelSettings
from soups.models.start import Start
from soups.runtime.devices import Precision, Runtime, RuntimeSettings, limit_threads, resolve
from soups.training.settings import TrainingSettings
from soups.training.training_set import TrainingSet

CLASSES = tuple("abcdefghij")
QUICK = {"model": "tiny", "images": 20, "repeats": 2, "batch_size": 5}
TOWER = {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 8}
Rows = dict[str, Callable[[], float]]  # Row name → a function that runs once and returns images per second.


class BenchSettings(BaseModel):
    """Time fine-tuning, evaluation and the image cache against plain loops on this machine.

    The rows take turns (A B C, A B C, ...), and each ratio comes from one turn. Nothing is downloaded, and all files
    are temporary.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    parts: tuple[Literal["training", "evaluation", "loading"], ...] = ("training", "evaluation", "loading")
    """What to measure."""
    model: str = "ViT-B/32"
    """Any architecture of open_clip."""
    images: int = Field(default=64, ge=len(CLASSES))
    """JPEGs in the data set, all of which are used in each turn."""
    batch_size: int = Field(default=32, gt=0)
    """Images per step of training and evaluation."""
    repeats: int = Field(default=5, gt=0)
    """Number of turns."""
    quick: Flag = False
    """Use a tiny network on a few tiny images: shows in seconds that everything works, but no meaningful speeds."""
    output: str | None = None
    """File for the results as JSON lines: first the machine, then each row with the speeds of all turns."""
    runtime: RuntimeSettings = RuntimeSettings()


@dataclass(frozen=True)
class Workbench:
    """What all rows share: network, images, threads and device."""

    settings: BenchSettings
    runtime: Runtime
    folder: Path
    start: Start
    labels: np.ndarray

    def loader(self, training: bool) -> Iterable[Any]:
        """Return the plain loader, which decodes each JPEG at each access, for open_clip's own transform."""
        import open_clip
        from torch.utils.data import DataLoader
        from torchvision.datasets import ImageFolder

        values, size, workers = self.start.preprocessing, self.settings.batch_size, self.runtime.workers
        transform = open_clip.image_transform(values.size, is_train=training, mean=values.mean, std=values.std)
        images = ImageFolder(str(self.folder / "jpegs"), transform)
        return DataLoader(images, size, shuffle=training, num_workers=workers, persistent_workers=workers > 0)

    def images(self, training: bool, cache: str = "on", folder: Path | None = None) -> Images:
        """Return the toolkit's images, the same ones in the same order."""
        geometry = (training_geometry if training else evaluation_geometry)(self.start.preprocessing)
        return open_images(sorted(self.folder.glob("jpegs/*/*")), geometry, cache, folder or self.folder / "cache")

    def runtimes(self) -> list[Runtime]:
        """Return runtimes at fp32 and at the machine's own precision if that differs."""
        precisions: list[Precision] = ["fp32", self.runtime.precision]
        return [self.runtime.model_copy(update={"precision": name}) for name in dict.fromkeys(precisions)]

    def speed(self, work: Callable[[], object]) -> float:
        """Return the images per second of processing all images, up to the device's last operation."""
        import torch

        started = time.perf_counter()
        work()
        if self.runtime.device != "cpu":
            torch.accelerator.synchronize()
        return self.settings.images / (time.perf_counter() - started)


def plain_training(workbench: Workbench, ready: bool) -> float:
    """Time the second epoch of a loop like the original model-soups and WiSE-FT code; `ready`: prepared batches."""
    import torch

    model = copy.deepcopy(workbench.start.classifier).to(device := workbench.runtime.device).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-5, weight_decay=0.1)
    batches: Iterable[Any] = list(workbench.loader(True)) if ready else workbench.loader(True)

    def epoch() -> None:
        for images, labels in batches:
            optimizer.zero_grad()
            loss = torch.nn.functional.cross_entropy(model(images.to(device)), labels.to(device))
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()

    epoch()
    return workbench.speed(epoch)


def our_training(workbench: Workbench, runtime: Runtime) -> float:
    """Return the speed of a fine-tune's second epoch from the cache, as logged."""
    from soups.training.finetune import Finetune  # Imports torch, which --help does without.

    values, images, epochs = workbench.start.preprocessing, workbench.images(True), list[dict[str, Any]]()
    model, rows = copy.deepcopy(workbench.start.classifier), np.arange(len(images))
    training = TrainingSet(images, workbench.labels, rows, build_augmentation(values))
    one = Images(images.paths[:1], workbench.images(False).geometry)
    validation = EvaluationSet("val", one, workbench.labels[:1], np.array(["one"]), tuple(one.paths))
    settings = TrainingSettings(epochs=2, batch_size=workbench.settings.batch_size, validate_every=0)
    Finetune(model, training, validation, settings, 0, values, "accuracy", runtime, 1, epochs.append).run()
    return float(epochs[-1]["images_per_second"])


def training_part(workbench: Workbench) -> Rows:
    """Return the rows of fine-tuning the whole network."""
    ours = partial(our_training, workbench)
    return {
        "plain loop, fp32: decode, augment, train": partial(plain_training, workbench, False),
        "plain loop, fp32: train, batches ready": partial(plain_training, workbench, True),
        **{f"soups, {r.precision}: cached pixels, augment, train": partial(ours, r) for r in workbench.runtimes()},
    }


def evaluation_part(workbench: Workbench) -> Rows:
    """Return the rows of computing the logits of all images."""
    import torch

    device, values = workbench.runtime.device, workbench.start.preprocessing
    model, images = copy.deepcopy(workbench.start.classifier).to(device).eval(), workbench.images(False)

    @torch.no_grad()
    def plain(batches: Iterable[Any]) -> None:
        torch.cat([model(inputs.to(device)).cpu() for inputs, _ in batches])

    ours = partial(compute_logits, model, images, values, batch_size=workbench.settings.batch_size)
    work: dict[str, Callable[[], object]] = {
        "plain loop, fp32: decode, resize, forward": partial(plain, workbench.loader(False)),
        "plain loop, fp32: forward, batches ready": partial(plain, list(workbench.loader(False))),
        **{f"soups, {r.precision}: cached pixels, forward": partial(ours, runtime=r) for r in workbench.runtimes()},
    }
    return {name: partial(workbench.speed, function) for name, function in work.items()}


def loading_part(workbench: Workbench) -> Rows:
    """Return the rows of loading training batches up to normalised float32 inputs, and of building the cache once."""
    values, size = workbench.start.preprocessing, workbench.settings.batch_size

    def second_epoch(epoch: Callable[[int], Iterable[object]]) -> float:
        # The first batch starts the workers. A queue of zero length uses the batches up.
        deque(epoch(0), 0)
        return workbench.speed(lambda: deque(epoch(1), 0))

    def plain() -> float:
        return second_epoch(partial(lambda loader, number: loader, workbench.loader(True)))

    def ours(images: Images) -> float:
        what = images, workbench.labels, np.arange(len(images)), build_augmentation(values), size
        with TrainingLoader(*what, seed=0, workers=workbench.runtime.workers) as loader:
            return second_epoch(lambda number: (normalise(pixels, values) for pixels, _, _ in loader.epoch(number)))

    def build() -> float:
        with tempfile.TemporaryDirectory(dir=workbench.folder) as name:
            return workbench.speed(lambda: workbench.images(True, "on", Path(name)))

    return {
        "ImageFolder: decode, augment": plain,
        "soups, --cache off: decode, resize, augment": partial(ours, workbench.images(True, "off")),
        "soups: cached pixels, augment": partial(ours, workbench.images(True)),
        "soups, once: hash, decode, resize, write the cache": build,
    }


PARTS = {"training": training_part, "evaluation": evaluation_part, "loading": loading_part}


def make_jpegs(folder: Path, count: int, width: int) -> None:
    """Write JPEGs of quality 90 with detail at every scale, like photographs, and hard edges; ten classes."""
    from PIL import Image, ImageDraw

    height = 3 * width // 4
    for number in range(count):
        generator = np.random.default_rng(number)
        pixels = np.full((height, width, 3), 127.5, dtype=np.float32)
        for cells in (4, 8, 16, 32, 64, 128, 256):
            noise = generator.integers(0, 256, (3 * cells // 4, cells, 3), dtype=np.uint8)
            field = Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC)
            pixels += (np.asarray(field, dtype=np.float32) - 127.5) / cells**0.6
        picture = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
        for x, y, across, down in (generator.random((12, 4)) * (width, height, width / 3, height / 3)).tolist():
            ImageDraw.Draw(picture).ellipse((x, y, x + across, y + down), outline="white", width=1 + width // 100)
        path = folder / CLASSES[number % len(CLASSES)] / f"{number:06d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        picture.save(path, quality=90)


def set_up(settings: BenchSettings, folder: Path) -> Workbench:
    """Make the images on the disk and a network with random weights."""
    runtime = resolve(settings.runtime)
    limit_threads(runtime.threads)
    make_jpegs(folder / "jpegs", settings.images, width=96 if settings.quick else 640)
    write_json(folder / "open_clip_config.json", {"model_cfg": {"embed_dim": 8, "vision_cfg": TOWER, "text_cfg": {}}})
    model = f"local-dir:{folder}" if settings.quick else settings.model
    start = build_start(ModelSettings(model=model, pretrained="none", head="random"), CLASSES, seed=0)
    return Workbench(settings, runtime, folder, start, np.sort(np.arange(settings.images) % len(CLASSES)))


def measure(part: str, rows: Rows, repeats: int, warm: bool) -> list[dict[str, Any]]:
    """Measure speeds turn by turn (A B C, A B C, ...) and ratios to the turn's first row; `warm` adds an uncounted
    turn."""
    turns = [[work() for work in rows.values()] for _ in track(range(repeats + warm), part)][warm:]
    speeds = {name: [turn[column] for turn in turns] for column, name in enumerate(rows)}
    ratios = {name: [turn[column] / turn[0] for turn in turns] for column, name in enumerate(rows)}
    return [{"part": part, "row": row, "images_per_second": speeds[row], "ratio": ratios[row]} for row in rows]


def facts(workbench: Workbench) -> dict[str, Any]:
    """Return what the numbers depend on, without anything that identifies the machine's owner."""
    import torch

    runtime, file = workbench.runtime, Path("/proc/cpuinfo")
    lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    sizes = [path.stat().st_size for path in workbench.folder.glob("jpegs/*/*")]
    return {
        "processor": names[0] if names else platform.machine(),
        "cores": available_cores(),
        "device": runtime.device,
        **runtime.model_dump(include={"precision", "threads", "workers"}),
        "torch": torch.__version__,
        "kB per JPEG": round(sum(sizes) / len(sizes) / 1000),
        **workbench.settings.model_dump(include={"model", "images", "batch_size", "repeats", "quick"}),
    }


def table(results: list[dict[str, Any]]) -> str:
    """Return medians and ranges as aligned text."""
    lines = [["part", "row: what the time holds", "images/s", "range", "× first row", "range"]]
    for result in results:
        lines.append([result["part"], result["row"]])
        for values, digits in ((result["images_per_second"], 1), (result["ratio"], 2)):
            middle, low, high = (f"{value:.{digits}f}" for value in (median(values), min(values), max(values)))
            lines[-1] += [middle, f"{low}–{high}"]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)


def workbench(parsed: ParsedSettings[BenchSettings]) -> None:
    """Measure, print, and write the output file if requested."""
    settings = parsed.settings
    if settings.quick:
        settings = settings.model_copy(update={key: QUICK[key] for key in QUICK.keys() - parsed.names})
    results: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="soups-bench-") as name, patch.dict(os.environ, SOUPS_CACHE=name):
        workbench = set_up(settings, Path(name))
        for part in dict.fromkeys(settings.parts):
            # The other rows time their second epoch anyway.
            results += measure(part, PARTS[part](workbench), settings.repeats, warm=part == "evaluation")
        machine = facts(workbench)
    print(", ".join(f"{key} {value}" for key, value in machine.items()))
    print(table(results))
    if settings.output is not None:
        write_text(Path(settings.output), "".join(compact_json(line) + "\n" for line in [machine, *results]))


def main(argv: list[str] | None = None) -> int:
    """Parse, measure, and return the exit code."""
    return outcome.run(BenchSettings, workbench, argv)


if __name__ == "__main__":
    raise SystemExit(main())
