"""What `scripts/try_backbones.py` does: each backbone goes the whole way once, on a few generated images."""

import contextlib
import io
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from soups.checkpoints.checkpoint import read_state
from soups.cli import flags as cli
from soups.core.errors import DataError, PartialFailure, UsageError, UserError
from soups.data.settings import DataSettings
from soups.files.atomic import fingerprint, read_table, write_table
from soups.files.jsonl import append_record, read_records
from soups.models.settings import ModelSettings
from soups.pipeline.commands.main import run_main
from soups.pipeline.commands.predict import predict
from soups.pipeline.run.run import Run, require_run
from soups.pipeline.settings.commands import FinetuneSettings, InferenceSettings, MainSettings, RunSettings
from soups.pipeline.train.finetune import finetune
from soups.report.comparison import align_columns
from soups.runtime.devices import RuntimeSettings
from soups.training.settings import TrainingSettings
from tools.backbones.settings import BackboneSettings

logger = logging.getLogger(f"soups.{__name__}")

LOG, TABLE = "backbones.jsonl", "backbones.csv"
SIZES = (64, 96, 128, 160, 192, 224, 256, 384)
"""Sides of the input that are tried, in pixels; at 32 the last map of most networks is one place alone."""
_NAME = "trial"
_IMAGES = {"train": 4, "val": 2, "test": 3}
"""Images of each class."""
_COLOURS = {"ai": (200, 70, 60), "real": (60, 80, 200)}
_VERSIONED = ("torch", "timm", "open_clip_torch", "grad-cam")


@dataclass
class Trial:
    """A backbone being tried, and what was found out of it so far."""

    model: ModelSettings
    folder: Path
    """Of its run; what is in it is removed afterwards."""
    data: Path
    runtime: RuntimeSettings
    found: dict[str, Any] = field(default_factory=dict)

    @property
    def place(self) -> RunSettings:
        return RunSettings(name=_NAME, runs_folder=str(self.folder))

    @property
    def run(self) -> Run:
        return require_run(self.place, _NAME)


def try_backbones(given: cli.ParsedSettings[BackboneSettings]) -> None:
    """Try what was not tried with these versions; print the table of all that is asked for.

    Raises:
        UsageError: arguments of a backbone that are none.
        PartialFailure: some did not go the whole way; the table says which and why.
    """
    settings = given.settings
    folder = Path(settings.output)
    models = {entry: model_of(entry) for entry in settings.backbones}
    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for entry, model in models.items():
        key = fingerprint([entry, list(STEPS), {name: metadata.version(name) for name in _VERSIONED}])
        last = {line["key"]: line for line in read_records(folder / LOG)}.get(key)
        if last is None or last["failed"]:
            logger.info("%s …", entry)
            last = {"key": key, "backbone": entry, **_tried(model, folder, settings.runtime)}
            append_record(folder / LOG, last)
        lines.append(last)
    _write(folder / TABLE, lines)
    print(format_trials(lines))
    if failed := [line["backbone"] for line in lines if line["failed"]]:
        raise PartialFailure(
            f"{len(failed)} of {len(lines)} backbones failed: {', '.join(failed)}",
            next_step="the same command tries only these again; --debug shows a traceback",
        )


def model_of(entry: str) -> ModelSettings:
    """The settings of a backbone as it is listed, from random weights.

    Raises:
        UsageError: it makes no sense.
    """
    from pydantic import ValidationError

    name, *arguments = entry.split() or [""]
    try:
        return ModelSettings(model=name, pretrained="none", model_args=tuple(arguments) or None)
    except ValidationError as error:
        raise UsageError(f"--backbones {entry!r}", expected=error.errors()[0]["msg"]) from error


def _tried(model: ModelSettings, folder: Path, runtime: RuntimeSettings) -> dict[str, Any]:
    """What was found out, and where it failed and why."""
    with TemporaryDirectory(dir=folder, prefix=".trial-") as work:
        trial = Trial(model, Path(work) / "runs", make_images(Path(work) / "images"), runtime)
        for name, step in STEPS.items():
            try:
                step(trial)
            except Exception as error:  # Whatever a library raises: the others are to be tried.
                logger.debug("%s: %s", model.model, name, exc_info=True)
                told = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
                return {**trial.found, "failed": name, "reason": " ".join(told.split())[:300]}
        return {**trial.found, "failed": "", "reason": ""}


def make_images(folder: Path) -> Path:
    """Noisy pictures of two colours: `train`, `val` and `test`, 64 pixels a side; the same whenever they are made."""
    from PIL import Image

    generator = np.random.default_rng(0)
    for split, count in _IMAGES.items():
        for name, colour in _COLOURS.items():
            (folder / split / name).mkdir(parents=True)
            for number in range(count):
                pixels = np.array(colour) + generator.integers(-50, 50, (64, 64, 3))
                Image.fromarray(pixels.astype(np.uint8)).save(folder / split / name / f"{number}.png")
    return folder


def _build(trial: Trial) -> None:
    """Find the smallest input, and build the network for it."""
    from soups.models.build import build_start, describe

    sizes: Sequence[int | None] = SIZES
    if trial.model.arguments.get("img_size") or not trial.model.model.startswith(("timm:", "baseline")):
        sizes = (None,)  # It has one size.
    for size in sizes:
        trial.model = trial.model.model_copy(update={"image_size": size})
        try:
            start = build_start(trial.model, tuple(_COLOURS), seed=0)
            break
        except UserError:
            if size == sizes[-1]:
                raise
            describe(trial.model.model_copy(update={"image_size": None}))  # Raises where it is not for the size.
    trial.found["parameters"] = sum(parameter.numel() for parameter in start.classifier.parameters())
    trial.found["image_size"] = start.preprocessing.size


def _train(trial: Trial) -> None:
    """A step of training with each of two seeds, by the command's own way."""
    images = len(_COLOURS) * _IMAGES["train"]
    settings = FinetuneSettings(
        run=trial.place,
        data=DataSettings(data_location=str(trial.data)),
        model=trial.model,
        runtime=trial.runtime,
        i="0,1",
        training=TrainingSettings(epochs=1, batch_size=images, lr=1e-3, warmup=0),
    )
    finetune(cli.ParsedSettings(settings, frozenset({"i"})))
    run = trial.run
    speeds = [
        line["images_per_second"] for log in (run.folder / "logs/training").iterdir() for line in read_records(log)
    ]
    trial.found["seconds_per_step"] = images / max(speeds)
    start = read_state(run.start)
    for path in run.finetunes():
        state = read_state(path)
        if not all(bool(tensor.isfinite().all()) for tensor in state.values()):
            raise DataError(f"{path.name}: holds NaN or infinity after a step")
        if all(bool((tensor == start[key]).all()) for key, tensor in state.items()):
            raise DataError(f"{path.name}: a step of training moved nothing")


def _load(trial: Trial) -> None:
    """Every checkpoint is read back and classifies the images."""
    from soups.predictor import load

    paths = sorted((trial.data / "test").rglob("*.png"))
    for path in trial.run.finetunes():
        answers = load(path).predict_proba(paths)
        if answers.shape != (len(paths), len(_COLOURS)) or not np.isfinite(answers).all():
            raise DataError(f"{path.name}: as loaded, it gives no probabilities", found=str(answers.shape))


def _soup(trial: Trial) -> None:
    """The uniform soup of the two, and how far it is from their mean; BatchNorm's statistics are its own."""
    settings = MainSettings(run=trial.place, runtime=trial.runtime, uniform_soup=True)
    run_main(cli.ParsedSettings(settings, frozenset()))
    first, second = (read_state(path) for path in trial.run.finetunes())
    soup = read_state(trial.run.soup_path("uniform"))
    differences = [
        float((tensor.double() - (first[key].double() + second[key].double()) / 2).abs().max())
        for key, tensor in soup.items()
        if tensor.is_floating_point() and not key.endswith(("running_mean", "running_var"))
    ]
    trial.found["soup_difference"] = max(differences)
    largest = max(float(tensor.abs().max()) for tensor in soup.values() if tensor.is_floating_point())
    if not trial.found["soup_difference"] <= largest * 2**-23:
        raise DataError("the soup is not the mean of the two", found=f"a difference of {max(differences):.2g}")


def _vote(trial: Trial) -> None:
    """The soft vote of the two on the test images."""
    members = tuple(path.stem for path in trial.run.finetunes())
    output = trial.folder / "vote.csv"
    settings = InferenceSettings(run=trial.place, runtime=trial.runtime, soft_voting=members, output=str(output))
    with contextlib.redirect_stdout(io.StringIO()):  # It prints the path.
        predict(cli.ParsedSettings(settings, frozenset({"soft_voting", "output"})))
    if len(read_table(output)) != len(_COLOURS) * _IMAGES["test"]:
        raise DataError("the vote does not answer for each image", found=f"{len(read_table(output))} rows")


def _explain(trial: Trial) -> None:
    """A map of an image by every method that suits the network; all but one of them may find nothing there."""
    from soups.explain.methods import METHODS
    from soups.predictor import load

    model = load(trial.run.soup_path("uniform"))
    image = min((trial.data / "test").rglob("*.png"))
    heats = {}
    for method in METHODS:
        with contextlib.suppress(UsageError):  # It does not suit.
            heats[method] = model.explain(image, method)
    trial.found["maps"] = " ".join(heats)
    sizes = {heat.shape for heat in heats.values()}
    if sizes != {(model.card.preprocessing.size,) * 2} or not any(heat.max() > heat.min() for heat in heats.values()):
        raise DataError("no method gives a map", found=f"{trial.found['maps'] or 'none'} of {sorted(sizes)}")


STEPS: dict[str, Callable[[Trial], None]] = {
    "build": _build,
    "train": _train,
    "load": _load,
    "soup": _soup,
    "vote": _vote,
    "explain": _explain,
}
"""What every backbone goes through, in this order."""


def format_trials(lines: Sequence[Mapping[str, Any]]) -> str:
    """The table for a terminal, and below it why something failed."""
    header = ["backbone", "parameters", "input", "s/step", "soup − mean", "maps", "result"]
    cells = [header]
    for line in lines:
        parameters = line.get("parameters")
        cells.append(
            [
                line["backbone"],
                f"{parameters / 1e6:.2f} M" if parameters else "–",
                str(line.get("image_size", "–")),
                _number(line.get("seconds_per_step"), ".2f"),
                _number(line.get("soup_difference"), ".1g"),
                line.get("maps") or "–",
                f"failed: {line['failed']}" if line["failed"] else "ok",
            ]
        )
    reasons = [f"{line['backbone']}: {line['failed']}: {line['reason']}" for line in lines if line["failed"]]
    return "\n".join([align_columns(cells), *reasons])


def _number(value: float | None, form: str) -> str:
    return "–" if value is None or not math.isfinite(value) else format(value, form)


def _write(path: Path, lines: Sequence[Mapping[str, Any]]) -> None:
    import pandas as pd

    columns = [
        "backbone",
        "parameters",
        "image_size",
        "seconds_per_step",
        "soup_difference",
        "maps",
        "failed",
        "reason",
    ]
    write_table(path, pd.DataFrame(lines, columns=columns).astype({"parameters": "Int64", "image_size": "Int64"}))
