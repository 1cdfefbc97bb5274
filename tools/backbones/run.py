"""The script `try_backbones.py`: runs each backbone through all steps once, on a few generated images."""

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
from soups.cli.flags import ParsedSettings
from soups.core.errors import DataError, PartialFailure, UsageError, UserError
from soups.data.settings import DataSettings
from soups.files.atomic import fingerprint, write_table
from soups.files.jsonl import append_record, read_records
from soups.files.tables import read_table
from soups.models.settings import ModelSettings
from soups.pipeline.commands.main import run_main
from soups.pipeline.commands.predict import predict
from soups.pipeline.run.run import Run, require_run
from soups.pipeline.settings.commands import FinetuneSettings, InferenceSettings, MainSettings, RunSettings
from soups.pipeline.train.finetune import finetune
from soups.report.tables import align_columns
from soups.runtime.devices import RuntimeSettings
from soups.training.settings import TrainingSettings
from tools.backbones.settings import BackboneSettings

logger = logging.getLogger(f"soups.{__name__}")

LOG, TABLE = "backbones.jsonl", "backbones.csv"
SIZES = (64, 96, 128, 160, 192, 224, 256, 384)
"""Input sides that are tried, in pixels. At 32 the last feature map of most networks has a single position."""
_NAME = "trial"
_IMAGES = {"train": 4, "val": 2, "test": 3}
"""Set → images per class."""
_COLOURS = {"ai": (200, 70, 60), "real": (60, 80, 200)}
_VERSIONED = ("torch", "timm", "open_clip_torch", "grad-cam")


@dataclass
class Trial:
    """A backbone under trial and its results so far."""

    model: ModelSettings
    folder: Path
    """The run's folder; its content is removed after the trial."""
    data: Path
    runtime: RuntimeSettings
    results: dict[str, Any] = field(default_factory=dict)

    @property
    def run_settings(self) -> RunSettings:
        return RunSettings(name=_NAME, runs_folder=str(self.folder))

    @property
    def run(self) -> Run:
        return require_run(self.run_settings, _NAME)


def try_backbones(parsed: ParsedSettings[BackboneSettings]) -> None:
    """Try the backbones that were not tried with these package versions; print the table of all requested ones.

    Raises:
        UsageError: The arguments of a backbone are invalid.
        PartialFailure: Some backbones failed; the table shows the step and the reason.
    """
    settings = parsed.settings
    folder = Path(settings.output)
    models = {entry: model_of(entry) for entry in settings.backbones}
    folder.mkdir(parents=True, exist_ok=True)
    results = []
    for entry, model in models.items():
        key = fingerprint([entry, list(STEPS), {name: metadata.version(name) for name in _VERSIONED}])
        result = {result["key"]: result for result in read_records(folder / LOG)}.get(key)
        if result is None or result["failed"]:
            logger.info("%s …", entry)
            result = {"key": key, "backbone": entry, **_run_steps(model, folder, settings.runtime)}
            append_record(folder / LOG, result)
        results.append(result)
    _write_table(folder / TABLE, results)
    print(format_trials(results))
    if failed := [result["backbone"] for result in results if result["failed"]]:
        raise PartialFailure(
            f"{len(failed)} of {len(results)} backbones failed: {', '.join(failed)}",
            next_step="run the same command again to retry only these; --debug shows a traceback",
        )


def model_of(entry: str) -> ModelSettings:
    """Return the model settings of a listed backbone, with random weights.

    Raises:
        UsageError: The entry is invalid.
    """
    from pydantic import ValidationError

    name, *arguments = entry.split() or [""]
    try:
        return ModelSettings(model=name, pretrained="none", model_args=tuple(arguments) or None)
    except ValidationError as error:
        raise UsageError(f"--backbones {entry!r}", expected=error.errors()[0]["msg"]) from error


def _run_steps(model: ModelSettings, folder: Path, runtime: RuntimeSettings) -> dict[str, Any]:
    """Return the results of a backbone, with the failed step and its reason if one failed."""
    with TemporaryDirectory(dir=folder, prefix=".trial-") as work:
        trial = Trial(model, Path(work) / "runs", make_images(Path(work) / "images"), runtime)
        for name, step in STEPS.items():
            try:
                step(trial)
            except Exception as error:  # A library may raise anything, and the other backbones are tried anyway.
                logger.debug("%s: %s", model.model, name, exc_info=True)
                reason = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
                return {**trial.results, "failed": name, "reason": " ".join(reason.split())[:300]}
        return {**trial.results, "failed": "", "reason": ""}


def make_images(folder: Path) -> Path:
    """Write noisy images of two colours to `train`, `val` and `test`, 64 pixels a side; deterministic."""
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
    """Find the smallest input size and build the network for it."""
    from soups.models.build import build_start, describe

    sizes: Sequence[int | None] = SIZES
    if trial.model.arguments.get("img_size") or not trial.model.model.startswith(("timm:", "baseline")):
        sizes = (None,)  # The network has a fixed input size.
    for size in sizes:
        trial.model = trial.model.model_copy(update={"image_size": size})
        try:
            start = build_start(trial.model, tuple(_COLOURS), seed=0)
            break
        except UserError:
            if size == sizes[-1]:
                raise
            # Raises if the network itself is unknown, in which case no other size helps.
            describe(trial.model.model_copy(update={"image_size": None}))
    trial.results["parameters"] = sum(parameter.numel() for parameter in start.classifier.parameters())
    trial.results["image_size"] = start.preprocessing.size


def _train(trial: Trial) -> None:
    """Train one step with each of two seeds through the command."""
    images = len(_COLOURS) * _IMAGES["train"]
    settings = FinetuneSettings(
        run=trial.run_settings,
        data=DataSettings(data_location=str(trial.data)),
        model=trial.model,
        runtime=trial.runtime,
        i="0,1",
        training=TrainingSettings(epochs=1, batch_size=images, lr=1e-3, warmup=0),
    )
    finetune(ParsedSettings(settings, frozenset({"i"})))
    run = trial.run
    speeds = [
        line["images_per_second"] for log in (run.folder / "logs/training").iterdir() for line in read_records(log)
    ]
    trial.results["seconds_per_step"] = images / max(speeds)
    start = read_state(run.start)
    for path in run.finetunes():
        state = read_state(path)
        if not all(bool(tensor.isfinite().all()) for tensor in state.values()):
            raise DataError(f"{path.name}: contains NaN or infinity after a step")
        if all(bool((tensor == start[key]).all()) for key, tensor in state.items()):
            raise DataError(f"{path.name}: a training step changed no weight")


def _load(trial: Trial) -> None:
    """Load every checkpoint and classify the images with it."""
    from soups.predictor import load

    paths = sorted((trial.data / "test").rglob("*.png"))
    for path in trial.run.finetunes():
        outputs = load(path).predict_proba(paths)
        if outputs.shape != (len(paths), len(_COLOURS)) or not np.isfinite(outputs).all():
            raise DataError(f"{path.name}: the loaded model gives no probabilities", found=str(outputs.shape))


def _soup(trial: Trial) -> None:
    """Make the uniform soup of the two models; compare it with their mean, except for BatchNorm's statistics."""
    settings = MainSettings(run=trial.run_settings, runtime=trial.runtime, uniform_soup=True)
    run_main(ParsedSettings(settings, frozenset()))
    first, second = (read_state(path) for path in trial.run.finetunes())
    soup = read_state(trial.run.soup_path("uniform"))
    differences = [
        float((tensor.double() - (first[key].double() + second[key].double()) / 2).abs().max())
        for key, tensor in soup.items()
        if tensor.is_floating_point() and not key.endswith(("running_mean", "running_var"))
    ]
    trial.results["soup_difference"] = max(differences)
    largest = max(float(tensor.abs().max()) for tensor in soup.values() if tensor.is_floating_point())
    if not trial.results["soup_difference"] <= largest * 2**-23:
        raise DataError("the soup is not the mean of the two", found=f"a difference of {max(differences):.2g}")


def _vote(trial: Trial) -> None:
    """Make the soft vote of the two models on the test images."""
    members = tuple(path.stem for path in trial.run.finetunes())
    output = trial.folder / "vote.csv"
    settings = InferenceSettings(run=trial.run_settings, runtime=trial.runtime, soft_voting=members, output=str(output))
    with contextlib.redirect_stdout(io.StringIO()):  # The command prints the path.
        predict(ParsedSettings(settings, frozenset({"soft_voting", "output"})))
    if len(read_table(output)) != len(_COLOURS) * _IMAGES["test"]:
        raise DataError("the vote's table lacks images", found=f"{len(read_table(output))} rows")


def _explain(trial: Trial) -> None:
    """Make a map of an image with every method that supports the network; at least one map must vary."""
    from soups.explain.methods import METHODS
    from soups.predictor import load

    model = load(trial.run.soup_path("uniform"))
    image = min((trial.data / "test").rglob("*.png"))
    heats = {}
    for method in METHODS:
        with contextlib.suppress(UsageError):  # The method does not support the network.
            heats[method] = model.explain(image, method)
    trial.results["maps"] = " ".join(heats)
    sizes = {heat.shape for heat in heats.values()}
    if sizes != {(model.card.preprocessing.size,) * 2} or not any(heat.max() > heat.min() for heat in heats.values()):
        raise DataError("no method gives a map", found=f"{trial.results['maps'] or 'none'} of {sorted(sizes)}")


STEPS: dict[str, Callable[[Trial], None]] = {
    "build": _build,
    "train": _train,
    "load": _load,
    "soup": _soup,
    "vote": _vote,
    "explain": _explain,
}
"""The steps of a trial, in order."""


def format_trials(results: Sequence[Mapping[str, Any]]) -> str:
    """Return the table for a terminal, followed by the reasons of failures."""
    header = ["backbone", "parameters", "input", "s/step", "soup − mean", "maps", "result"]
    cells = [header]
    for result in results:
        parameters = result.get("parameters")
        cells.append(
            [
                result["backbone"],
                f"{parameters / 1e6:.2f} M" if parameters else "–",
                str(result.get("image_size", "–")),
                _format_number(result.get("seconds_per_step"), ".2f"),
                _format_number(result.get("soup_difference"), ".1g"),
                result.get("maps") or "–",
                f"failed: {result['failed']}" if result["failed"] else "ok",
            ]
        )
    reasons = [
        f"{result['backbone']}: {result['failed']}: {result['reason']}" for result in results if result["failed"]
    ]
    return "\n".join([align_columns(cells), *reasons])


def _format_number(value: float | None, form: str) -> str:
    return "–" if value is None or not math.isfinite(value) else format(value, form)


def _write_table(path: Path, results: Sequence[Mapping[str, Any]]) -> None:
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
    write_table(path, pd.DataFrame(results, columns=columns).astype({"parameters": "Int64", "image_size": "Int64"}))
