"""Tables of answers that commands are given: whose classes they have, and where their images are."""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from soups.core.errors import DataError, UsageError
from soups.core.labels import LabelSpace
from soups.data.images.decode import decode
from soups.data.layouts.folders import images_below, lookup_keys
from soups.data.samples import declared_space
from soups.data.settings import DataSettings
from soups.files.prediction_tables import PredictionTable, read_predictions
from soups.pipeline.run.images import image_paths
from soups.pipeline.run.run import Run, existing_run, latest_run
from soups.pipeline.settings.commands import CommandSettings

logger = logging.getLogger(__name__)

_LONGEST_SIDE = 256


def space_of_tables(settings: CommandSettings, table: Path) -> tuple[Run | None, LabelSpace | None]:
    """The run that tables belong to, as far as that is known, and their classes.

    Classes are those of the run that is named, else of a described --layout, else of the run last trained where a table
    fits it.

    Args:
        settings: of the command.
        table: one of the tables, whose answers must fit.

    Returns:
        Run and classes, or None for what nobody tells.

    Raises:
        UsageError: the named run is not there.
    """
    named = settings.run.name
    if named is not None:
        run = existing_run(settings.run, named)
        if run is None:
            raise UsageError(f"{settings.run.runs_folder}/{named}: no such run", next_step="leave --name out")
        return run, _fitting(run, table) or run.space
    if (declared := declared_space(settings.data)) is not None:
        return None, declared
    latest = latest_run(settings.run)
    run = existing_run(settings.run, latest) if latest else None
    space = _fitting(run, table) if run is not None else None
    if run is None or space is None:
        return None, None
    logger.info("the classes are those of run %s", run.name)
    return run, space


def _fitting(run: Run, table: Path) -> LabelSpace | None:
    """The run's classes, or all that its data has, whichever a table is told in; None where it is neither."""
    for space in dict.fromkeys([run.space, run.recorded.joint_space or run.space]):
        try:
            read_predictions(table, space)
        except DataError:
            continue
        return space
    return None


def plain_space(tables: Sequence[PredictionTable]) -> LabelSpace:
    """The classes that occur in tables; numbers in their order.

    Raises:
        DataError: some tables give classes as numbers and others as names.
    """
    numbers = [all(answer.isdecimal() for answer in table.labels) for table in tables]
    for table, numeric in zip(tables, numbers, strict=True):
        if numeric != numbers[0]:
            words = ("numbers", "names") if numeric else ("names", "numbers")
            raise DataError(
                f"{table.path}: gives classes as {words[0]}, {tables[0].path} as {words[1]}",
                expected="names in all tables or numbers in all",
                next_step="name the run whose classes they are, --name, or the layout, --layout",
            )
    names = {answer for table in tables for answer in table.labels}
    return LabelSpace(tuple(sorted(names, key=int) if numbers[0] else sorted(names)))


def picture_reader(ids: list[str], run: Run | None, data: DataSettings) -> Callable[[int], np.ndarray] | None:
    """Row → (H, W, 3) uint8, a small picture of the image that an id names; None, with a notice, where some have none.

    Images are looked for below --test-location, else among the run's.
    """
    if data.test_location is not None:
        root = Path(data.test_location)
        paths = images_below(root)[0] if root.is_dir() else []
        names = [path.relative_to(root).as_posix() for path in paths]
    else:
        paths = list(image_paths(run.samples, run)) if run is not None else []
        names = run.samples["image"].tolist() if run is not None else []
    files = {key: path for name, path in zip(names, paths, strict=True) for key in lookup_keys(name)}
    if not all(name in files for name in ids):
        logger.info("no pictures of the images: they are neither a run's nor below --test-location")
        return None
    return lambda row: thumbnail(files[ids[row]])


def thumbnail(path: Path) -> np.ndarray:
    """An image at no more than 256 pixels a side: (H, W, 3) uint8."""
    from PIL import Image

    picture = Image.fromarray(decode(path))
    picture.thumbnail((_LONGEST_SIDE, _LONGEST_SIDE))
    return np.asarray(picture)
