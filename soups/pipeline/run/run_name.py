"""The name of the run that a command continues or makes."""

import logging
from collections.abc import Iterator
from contextlib import suppress
from itertools import chain, count
from pathlib import Path

from soups.core.errors import DataError
from soups.data.layouts.image_files import existing_folder
from soups.pipeline.run.moved_images import locate_images
from soups.pipeline.run.run import Run, existing_run, latest_run, slug
from soups.pipeline.settings.commands import CommandSettings

logger = logging.getLogger(__name__)


def choose_run_name(settings: CommandSettings) -> str:
    """Returns the name of the run of a command.

    It is the name that the user gave; else the run last trained, unless the user gave the location of other images;
    else the run that has these images under the default name, or that name for a new run, numbered if it is taken.

    Raises:
        DataError: the data location does not exist.
    """
    if settings.run.name is not None:
        return settings.run.name
    latest = existing_run(settings.run, latest_run(settings.run))
    for location in settings.data.locations:
        existing_folder(location, "--data-location", "the folder of the images")
    if latest is not None and (not settings.data.locations or _has_images(latest, settings)):
        return latest.name
    for name in numbered_names(default_run_name(settings)):
        run = None
        with suppress(DataError):  # The name of a damaged run is taken.
            run = existing_run(settings.run, name)
        if run is not None and (not settings.data.locations or _has_images(run, settings)):
            logger.info("run %s: goes on, because it has these images", name)
            return name
        if run is None and not (Path(settings.run.runs_folder) / name).exists():
            break
    if latest is not None:
        text = "run %s: a new one, because the images of run %s (the last one) are others; --name NAME names another"
        logger.info(text, name, latest.name)
    return name


def _has_images(run: Run, settings: CommandSettings) -> bool:
    return locate_images(run.folder, run.recorded, settings.data) is not None


def numbered_names(first: str) -> Iterator[str]:
    """Yields `digits`, `digits-2`, `digits-3`, …"""
    return chain([first], (f"{first}-{serial}" for serial in count(2)))


def default_run_name(settings: CommandSettings) -> str:
    """Returns the default name of a run: the name of the data's folder, or of its folders."""
    names = [Path(location).resolve().name for location in settings.data.locations]
    return slug("-".join(names), default="run")
