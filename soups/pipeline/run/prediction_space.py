"""Classes and images of prediction tables that commands get as files."""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from soups.core.errors import DataError, UsageError
from soups.core.labels import LabelSpace
from soups.core.notes import mute_notes
from soups.data.images.decode import decode
from soups.data.layouts.image_files import images_below, lookup_keys
from soups.data.samples import declared_space
from soups.data.settings import DataSettings
from soups.files.prediction_tables import PredictionTable, read_predictions
from soups.pipeline.run.images import image_paths
from soups.pipeline.run.run import Run, existing_run, latest_run, require_run
from soups.pipeline.settings.commands import CommandSettings

logger = logging.getLogger(__name__)

_THUMBNAIL_SIDE = 256


def space_of_tables(settings: CommandSettings, table: Path) -> tuple[Run | None, LabelSpace | None]:
    """Returns the run of prediction tables, if known, and their classes.

    Classes are those of the run given by --name, else of a --layout with factors, else of the run last trained if a
    table fits it.

    Args:
        settings: settings of the command.
        table: one of the tables; its classes must fit.

    Returns:
        Run and classes, each None if unknown.

    Raises:
        UsageError: the run of --name does not exist.
    """
    if settings.run.name is not None:
        named = require_run(settings.run, settings.run.name)
        return named, _space_fitting(named, table) or named.space
    if (declared := declared_space(settings.data)) is not None:
        return None, declared
    run = existing_run(settings.run, latest_run(settings.run))
    space = _space_fitting(run, table) if run is not None else None
    if run is None or space is None:
        return None, None
    logger.info("the classes are those of run %s", run.name)
    return run, space


def _space_fitting(run: Run, table: Path) -> LabelSpace | None:
    """Returns the run's classes or all classes of its data, whichever fits a table; None if neither does."""
    for space in dict.fromkeys([run.space, run.recorded.joint_space or run.space]):
        try:
            with mute_notes():
                read_predictions(table, space)
        except DataError:
            continue
        return space
    return None


def plain_space(tables: Sequence[PredictionTable]) -> LabelSpace:
    """Returns the classes that occur in tables, or have a probability in them; numbers in numeric order."""
    names = {name for table in tables for name in (*table.classes, *table.probability_classes)}
    return LabelSpace(tuple(sorted(names, key=int if all(map(str.isdecimal, names)) else str)))


def thumbnail_reader(ids: list[str], run: Run | None, data: DataSettings) -> Callable[[int], np.ndarray] | None:
    """Returns row → (H, W, 3) uint8 thumbnail of its image; None, with a log line, if some images are not found.

    Images are searched for below --test-location, else among the run's.
    """
    found: dict[str, Path] = {}
    if data.test_location is not None:
        root = Path(data.test_location)
        paths = images_below(root)[0] if root.is_dir() else []
        found = {path.relative_to(root).as_posix(): path for path in paths}
    elif run is not None:
        found = dict(zip(run.samples["image"], image_paths(run.samples, run), strict=True))
    files = {key: path for name, path in found.items() for key in lookup_keys(name)}
    if not all(name in files for name in ids):
        logger.info("no thumbnails: the images are neither in a run nor below --test-location")
        return None
    return lambda row: thumbnail(files[ids[row]])


def thumbnail(path: Path) -> np.ndarray:
    """Returns an image scaled to at most 256 pixels a side: (H, W, 3) uint8."""
    from PIL import Image

    image = Image.fromarray(decode(path))
    image.thumbnail((_THUMBNAIL_SIDE, _THUMBNAIL_SIDE))
    return np.asarray(image)


def find_table(path: Path, flag: str) -> Path:
    """Return a CSV file, or the only CSV file of a folder.

    Raises:
        UsageError: The folder has no CSV file or several.
    """
    if not path.is_dir():
        return path
    tables = sorted(path.glob("*.csv"))
    if len(tables) != 1:
        found = ", ".join(table.name for table in tables) or "none"
        raise UsageError(f"{flag} {path}", expected="a CSV, or a folder with one", found=found)
    return tables[0]
