"""What `scripts/show_batch.py` does: a picture of the first images that a fine-tune will be trained on."""

from pathlib import Path

from soups.cli import flags as cli
from soups.core.errors import UsageError
from soups.core.preprocessing import Preprocessing
from soups.data.augment.augment import augmented_preprocessing
from soups.data.loader import TrainingLoader
from soups.pipeline.run.create import open_or_plan_run
from soups.pipeline.run.images import training_set
from soups.pipeline.run.run import Run
from soups.pipeline.settings.tools import ShowBatchSettings
from soups.report.figures.grid import Tile, draw_grid
from soups.report.figures.style import shortened
from soups.runtime.devices import derived_seed
from soups.training.hyperparameters import hyperparameters
from soups.training.settings import TrainingSettings
from soups.training.training_set import TrainingSet

_TITLE_SETTINGS = ("augmentation", "aug", "mix", "oversample", "oversample_augment", "sampler", "class_weights")
_LONGEST, _LONGEST_NAME = 40, 20


def show_batch(given: cli.ParsedSettings[ShowBatchSettings]) -> None:
    """Draw the images and print the picture's path.

    Raises:
        UsageError: settings that make no sense or differ from what the run recorded.
        DataError: images or labels that are not what they should be.
    """
    settings = given.settings
    run, there = open_or_plan_run(given)
    training = hyperparameters(settings.training, settings.ranges, settings.i)
    if training is None:
        raise UsageError(f"--i {settings.i}: this entry is the start itself; it is not trained")
    preprocessing = augmented_preprocessing(_preprocessing(run, there), training.augmentation)
    shown = training_set(run, training, preprocessing, settings.cache)
    if settings.output is not None:
        path = Path(settings.output)
    else:
        path = run.folder / "figures" / "batch.png" if there else Path("batch.png")
    tiles = _tiles(shown, run, training, derived_seed(training.random_seed, settings.i), settings.images)
    size = f"{preprocessing.size} × {preprocessing.size}"
    heading = f"{run.name}{settings.i}: training images as the model sees them, {size} pixels\n{_told(training)}"
    draw_grid(tiles, path, heading)
    print(path)


def _preprocessing(run: Run, there: bool) -> Preprocessing:
    from soups.models.build import describe

    return run.card_without_file.preprocessing if there else describe(run.recorded.model)[1]


def _tiles(shown: TrainingSet, run: Run, training: TrainingSettings, seed: int, count: int) -> list[Tile]:
    """The first images of the first epoch."""
    loader = TrainingLoader(
        shown.images,
        shown.labels,
        shown.rows,
        shown.augmentation,
        batch_size=count,
        seed=seed,
        copies=shown.copies,
        chances=shown.chances,
    )
    with loader:
        pixels, labels, positions = next(iter(loader.epoch(0)))
    names = run.space.decode(labels.tolist())
    files = [shown.images.paths[int(position)] for position in positions]
    below = [f"{shortened(file.parent.name, _LONGEST_NAME)}\n{shortened(file.stem, _LONGEST_NAME)}" for file in files]
    lines = [name.replace("/", "\n") for name in names]
    return [Tile(*tile) for tile in zip(pixels.numpy(), lines, below, strict=True)]


def _told(training: TrainingSettings) -> str:
    """The settings that decide what the images look like and how often each comes, where they are not the defaults."""
    usual = TrainingSettings()
    values = {name: getattr(training, name) for name in _TITLE_SETTINGS}
    told = []
    for name, value in values.items():
        if name == "augmentation" or value != getattr(usual, name):
            text = " ".join(value) if isinstance(value, tuple) else str(value)
            told.append(f"{name} {'of a file' if text.startswith('{') else text[:_LONGEST]}")
    mixed = " (mixed pairs are not shown)" if training.mix else ""
    return ", ".join(told) + mixed
