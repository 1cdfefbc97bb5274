"""Whether a data location has the images of a run: the recorded folder, or one to which they were moved."""

import filecmp
import logging
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

from soups.core.errors import UserError
from soups.core.sampling import evenly_spaced
from soups.data.layouts.locate import resolve_locations
from soups.data.samples import read_samples
from soups.data.settings import DataSettings
from soups.pipeline.run.run_settings import RecordedSettings, record_run

logger = logging.getLogger(__name__)

_LOOKED_FOR, _COMPARED = 2_000, 16
"""Numbers of images, evenly spaced, that are looked for, and whose bytes are compared where both folders exist."""


def locate_images(folder: Path, recorded: RecordedSettings, data: DataSettings) -> DataSettings | None:
    """Returns the recorded data settings with the given location if the images of the run are there, else None.

    Args:
        folder: the folder of the run.
        recorded: the settings of the run.
        data: the user's settings with a data location.
    """
    with suppress(UserError):  # A folder of another layout has other images.
        given = resolve_locations(recorded.data.model_copy(update={"data_location": data.data_location}))
        if _resolved(given) == _resolved(recorded.data):
            return recorded.data
        samples = read_samples(folder / "samples.csv")
        images = samples.loc[samples["split"].isin(("train", "val")), "image"].tolist()
        found = [images[position] for position in evenly_spaced(len(images), _LOOKED_FOR)] if images else []
        if not found or not all((given.root / image).is_file() for image in found):
            return None
        before = recorded.data.root
        pairs = [
            (before / found[position], given.root / found[position])
            for position in evenly_spaced(len(found), _COMPARED)
        ]
        if all(filecmp.cmp(old, new, shallow=False) for old, new in pairs if old.is_file()):
            return given
    return None


def _resolved(data: DataSettings) -> list[Path]:
    return [Path(location).resolve() for location in data.locations]


def follow_images(
    folder: Path, recorded: RecordedSettings, data: DataSettings, given: Collection[str]
) -> RecordedSettings:
    """Returns the recorded settings of a run, with the given data location where its images have been moved there."""
    if "data_location" not in given or (located := locate_images(folder, recorded, data)) in (None, recorded.data):
        return recorded
    return recorded.model_copy(update={"data": located})


def record_move(folder: Path, before: RecordedSettings, moved: RecordedSettings) -> None:
    """Record and report the new location of a run's images, because workers and later commands read it."""
    text = "run %s: its images are read from %s from now on (recorded: %s)"
    logger.info(text, folder.name, moved.data.root, before.data.root)
    record_run(folder, moved)
