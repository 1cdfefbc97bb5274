"""The command `show_batch`: draws the first training images of a fine-tune as the model sees them."""

from pathlib import Path

from soups.cli.flags import ParsedSettings
from soups.core.errors import UsageError
from soups.core.preprocessing import Preprocessing
from soups.data.augment.augment import augmented_preprocessing
from soups.data.loader import TrainingLoader
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
    preprocessing = augmented_preprocessing(_model_preprocessing(run, exists), training.augmentation)
    data = training_set(run, training, preprocessing, settings.cache)
    if settings.output is not None:
        path = Path(settings.output)
    else:
        path = run.folder / "figures" / "batch.png" if exists else Path("batch.png")
    tiles = _first_images(data, run, training, derived_seed(training.random_seed, settings.i), settings.images)
    size = f"{preprocessing.size} × {preprocessing.size}"
    heading = (
        f"{run.name}{settings.i}: training images as the model sees them, {size} pixels\n{_settings_text(training)}"
    )
    draw_grid(tiles, path, heading)
    print(path)


def _model_preprocessing(run: Run, exists: bool) -> Preprocessing:
    from soups.models.build import describe

    return run.card_without_file.preprocessing if exists else describe(run.recorded.model)[1]


def _first_images(data: TrainingSet, run: Run, training: TrainingSettings, seed: int, count: int) -> list[Tile]:
    """Return the first images of the first epoch."""
    loader = TrainingLoader(
        data.images,
        data.labels,
        data.rows,
        data.augmentation,
        batch_size=count,
        seed=seed,
        copies=data.copies,
        chances=data.chances,
    )
    with loader:
        pixels, labels, positions = next(iter(loader.epoch(0)))
    names = run.space.decode(labels.tolist())
    files = [data.images.paths[int(position)] for position in positions]
    file_names = [
        f"{shorten(file.parent.name, _MAX_NAME_LENGTH)}\n{shorten(file.stem, _MAX_NAME_LENGTH)}" for file in files
    ]
    class_names = [name.replace("/", "\n") for name in names]
    return [Tile(*tile) for tile in zip(pixels.numpy(), class_names, file_names, strict=True)]


def _settings_text(training: TrainingSettings) -> str:
    """Return the settings of augmentation and sampling that differ from their defaults, for the title."""
    defaults = TrainingSettings()
    values = {name: getattr(training, name) for name in _TITLE_SETTINGS}
    parts = []
    for name, value in values.items():
        if name == "augmentation" or value != getattr(defaults, name):
            text = " ".join(value) if isinstance(value, tuple) else str(value)
            parts.append(f"{name} {'of a file' if text.startswith('{') else text[:_MAX_VALUE_LENGTH]}")
    mixed = " (mixed pairs are not shown)" if training.mix else ""
    return ", ".join(parts) + mixed
