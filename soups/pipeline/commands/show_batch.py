"""The command `show_batch`: draws the first training images of a fine-tune as the model sees them."""

from pathlib import Path
from typing import Any

from soups.cli.flags import ParsedSettings
from soups.core.errors import UsageError
from soups.data.augment.augment import augmented_preprocessing
from soups.data.loader import TrainingLoader
from soups.models.build import describe
from soups.pipeline.run.create import open_or_plan_run
from soups.pipeline.run.images import training_set
from soups.pipeline.run.run import Run
from soups.pipeline.settings.tools import ShowBatchSettings
from soups.report.figures.grid import Tile, draw_grid
from soups.report.figures.style import shorten
from soups.runtime.devices import derived_seed
from soups.training.hyperparameters import hyperparameters
from soups.training.settings import TrainingSettings
from soups.training.training_set import TrainingSet

_TITLE_SETTINGS = ("augmentation", "aug", "mix", "oversample", "oversample_augment", "sampler", "class_weights")
_MAX_VALUE_LENGTH, _MAX_NAME_LENGTH = 40, 20


def show_batch(parsed: ParsedSettings[ShowBatchSettings]) -> None:
    """Draw the images and print the figure's path.

    Raises:
        UsageError: Settings are invalid or differ from the recorded ones of the run.
        DataError: Images or labels are invalid.
    """
    settings = parsed.settings
    run, exists = open_or_plan_run(parsed)
    training = hyperparameters(settings.training, settings.ranges, settings.i)
    if training is None:
        raise UsageError(f"--i {settings.i}: this index is the start itself, which is not trained")
    of_model = run.card_without_file.preprocessing if exists else describe(run.recorded.model)[1]
    preprocessing = augmented_preprocessing(of_model, training.augmentation)
    data = training_set(run, training, preprocessing, settings.cache)
    path = Path(settings.output or (run.folder / "figures" / "batch.png" if exists else "batch.png"))
    tiles = _first_images(data, run, derived_seed(training.random_seed, settings.i), settings.images)
    seen = f"training images as the model sees them, {preprocessing.size} × {preprocessing.size} pixels"
    draw_grid(tiles, path, f"{run.model_name(settings.i)}: {seen}\n{_settings_text(training)}")
    print(path)


def _first_images(data: TrainingSet, run: Run, seed: int, count: int) -> list[Tile]:
    """Return the first images of the first epoch."""
    options: dict[str, Any] = {"batch_size": count, "seed": seed, "copies": data.copies, "chances": data.chances}
    with TrainingLoader(data.images, data.labels, data.rows, data.augmentation, **options) as loader:
        pixels, labels, positions = next(iter(loader.epoch(0)))
    names = run.space.decode(labels.tolist())
    tiles = []
    for image, name, position in zip(pixels.numpy(), names, positions, strict=True):
        file = data.images.paths[int(position)]
        below = "\n".join(shorten(part, _MAX_NAME_LENGTH) for part in (file.parent.name, file.stem))
        tiles.append(Tile(image, name.replace("/", "\n"), below))
    return tiles


def _settings_text(training: TrainingSettings) -> str:
    """Return the settings of augmentation and sampling that differ from their defaults, for the title."""
    defaults, parts = TrainingSettings(), []
    for name in _TITLE_SETTINGS:
        value = getattr(training, name)
        if name == "augmentation" or value != getattr(defaults, name):
            text = " ".join(value) if isinstance(value, tuple) else str(value)
            parts.append(f"{name} {'of a file' if text.startswith('{') else text[:_MAX_VALUE_LENGTH]}")
    return ", ".join(parts) + (" (mixed pairs are not shown)" if training.mix else "")
