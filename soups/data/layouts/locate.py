"""Where a data set lies and how it is laid out, as far as the user leaves that to be found."""

import logging
from collections.abc import Sequence
from contextlib import suppress
from itertools import permutations
from pathlib import Path

from soups.core.errors import DataError, UsageError, UserError
from soups.data.layouts.factor_layout import images_folder, matches_schema
from soups.data.layouts.metadata import has_metadata
from soups.data.layouts.schema import BUILTIN, LayoutSchema, is_schema, read_schema
from soups.data.settings import DataSettings

logger = logging.getLogger(__name__)

AUTO = "auto"
DEFAULT_LOCATIONS = (".", "data", "input/data", "/opt/ml/input/data")
"""Where a described layout is looked for when no data location is given; the last one is SageMaker's."""


def resolve_locations(settings: DataSettings) -> DataSettings:
    """The settings with nothing left to be found: data location, layout, test set and bands.

    A data location that is not given is looked for in `DEFAULT_LOCATIONS`, among described layouts alone, and said. Of a
    described layout the location becomes the folder above the images, whichever of the folders above was named, and its
    test set is taken along.

    Raises:
        UsageError: a description that is not there, or bands that do not fit it.
    """
    if len(settings.locations) > 1:
        return _resolve_several(settings)
    if settings.data_location is None and settings.layout in (AUTO, *BUILTIN):
        settings = _find_data_location(settings)
    if settings.layout == AUTO:
        settings = settings.model_copy(update={"layout": _detect_layout(settings)})
    if not is_schema(settings.layout):
        if settings.age_bands is not None:
            raise UsageError(
                "--age-bands: not for this layout", expected="profile, or a description", found=settings.layout
            )
        return settings
    description = read_schema(settings.layout, settings.age_bands)
    found: dict[str, object] = {}
    if len(description.banded_factors) == 1:
        found["age_bands"] = tuple(map(int, description.factors[description.banded_factors[0]].bands or ()))
    if settings.data_location is not None:
        root = canonical_location(settings.root, description)
        found["data_location"] = str(root)
        if settings.test_location is None and (test := _find_test_folder(root, description)) is not None:
            found["test_location"] = str(test)
    return settings.model_copy(update=found)


def _resolve_several(settings: DataSettings) -> DataSettings:
    """Several data locations, settled one by one: one layout, and one test set at the most beside them.

    Raises:
        UsageError: a folder named twice or inside another, or two test sets.
        DataError: they have different layouts.
    """
    _check_overlap(settings.locations)
    parts = [
        resolve_locations(settings.model_copy(update={"data_location": location})) for location in settings.locations
    ]
    if len({part.layout for part in parts}) > 1:
        raise DataError(
            "--data-location: folders of different layouts",
            expected="one layout in all of them",
            found=", ".join(f"{part.root}: {part.layout}" for part in parts),
            next_step="name the one that all have with --layout, or bring them to one",
        )
    tests = sorted({part.test_location for part in parts if part.test_location is not None})
    if len(tests) > 1:
        raise UsageError(
            "--data-location: several test sets", expected="one", found=", ".join(tests), next_step="--test-location"
        )
    found = {"data_location": tuple(str(part.root) for part in parts), "test_location": tests[0] if tests else None}
    return parts[0].model_copy(update=found)


def _check_overlap(locations: Sequence[str]) -> None:
    places = [Path(location).resolve() for location in locations]
    for first, second in permutations(range(len(places)), 2):
        if places[second].is_relative_to(places[first]):
            where = "is named twice" if places[first] == places[second] else f"lies in {locations[first]}"
            raise UsageError(f"--data-location: {locations[second]} {where}", expected="each image once")


def canonical_location(location: Path, description: LayoutSchema) -> Path:
    """The folder above that of the images, whether that, the images' own or the one above `train/` was named."""
    images = images_folder(location, description) if location.is_dir() else None
    if images is None:
        return location
    return images.parent if description.images is not None and images.name == Path(description.images).name else images


def _find_data_location(settings: DataSettings) -> DataSettings:
    names = [name for name in BUILTIN if settings.layout in (AUTO, name)]
    for place in map(Path, DEFAULT_LOCATIONS):
        for name in names:
            description = read_schema(name)
            images = None
            if description.images is not None and place.is_dir():
                with suppress(UserError):  # Nobody said that this folder is about images.
                    images = _matching_folder(place, description)
            if images is not None:
                logger.info("--data-location is not given: taking %s (layout %s)", images, name)
                return settings.model_copy(update={"data_location": str(place), "layout": name})
    return settings


def _detect_layout(settings: DataSettings) -> str:
    if settings.labels is not None:
        return "csv"
    location = settings.root
    if settings.data_location is not None and location.is_dir():
        for name in BUILTIN:
            if (images := _matching_folder(location, read_schema(name))) is not None:
                logger.info("layout %s: %s", name, images)
                return name
        if has_metadata(location):
            logger.info("layout metadata: %s", location)
            return "metadata"
    return "folder"


def _matching_folder(location: Path, description: LayoutSchema) -> Path | None:
    """The folder of images, if something in it is named as the description says."""
    images = images_folder(location, description)
    return images if images is not None and matches_schema(images, description) else None


def _find_test_folder(root: Path, description: LayoutSchema) -> Path | None:
    if description.test is None:
        return None
    places = [root / description.test, *([root.parent / description.test] if root.name == "train" else [])]
    return next((place for place in places if place.is_dir()), None)
