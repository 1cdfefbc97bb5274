"""Detection of settings that the user did not set: data location, layout, test set and age bands."""

from contextlib import suppress
from itertools import permutations
from pathlib import Path

from soups.core.errors import DataError, UsageError, UserError
from soups.core.notes import add_note
from soups.data.layouts.factor_layout import images_folder, matches_schema
from soups.data.layouts.label_tables import find_label_table
from soups.data.layouts.metadata import has_metadata
from soups.data.layouts.schema import BUILTIN, LayoutSchema, is_schema, read_schema
from soups.data.settings import DataSettings

AUTO = "auto"
DEFAULT_LOCATIONS = (".", "data", "input/data", "/opt/ml/input/data")
"""Folders searched for a built-in schema layout if `--data-location` is not set; the last one is SageMaker's."""


def resolve_locations(settings: DataSettings) -> DataSettings:
    """Return settings with data location, layout, test location and age bands resolved.

    If no data location is set, `DEFAULT_LOCATIONS` is searched for built-in schema layouts, and the result is logged.
    For a schema layout, the data location becomes the parent of the images' folder, whichever folder the user set, and
    the schema's test folder becomes the test location.

    Raises:
        UsageError: the schema file does not exist, or the age bands do not fit it.
    """
    if len(settings.locations) > 1:
        return _resolve_several(settings)
    if settings.data_location is None and settings.layout in (AUTO, *BUILTIN):
        settings = _find_data_location(settings)
    if settings.layout == AUTO:
        settings = settings.model_copy(update=_detect_layout(settings))
    if not is_schema(settings.layout):
        if settings.age_bands is not None:
            raise UsageError(
                "--age-bands: not available for this layout",
                expected="profile, or a YAML file with a banded factor",
                found=settings.layout,
            )
        return settings
    schema = read_schema(settings.layout, settings.age_bands)
    resolved: dict[str, object] = {}
    if len(schema.banded_factors) == 1:
        resolved["age_bands"] = tuple(map(int, schema.factors[schema.banded_factors[0]].bands or ()))
    if settings.data_location is not None:
        root = _canonical_location(settings.root, schema)
        resolved["data_location"] = str(root)
        if settings.test_location is None and (test := _find_test_folder(root, schema)) is not None:
            resolved["test_location"] = str(test)
    return settings.model_copy(update=resolved)


def _resolve_several(settings: DataSettings) -> DataSettings:
    """Resolve several data locations one by one; they must have the same layout and at most one test set.

    Raises:
        UsageError: a folder is named twice or lies in another one, or there are several test sets.
        DataError: the layouts differ.
    """
    paths = [(location, Path(location).resolve()) for location in settings.locations]
    for (location, path), (other, other_path) in permutations(paths, 2):
        if other_path.is_relative_to(path):
            where = "is named twice" if path == other_path else f"lies in {location}"
            raise UsageError(f"--data-location: {other} {where}", expected="each image once")
    each = [resolve_locations(settings.model_copy(update={"data_location": location})) for location, _ in paths]
    if len({one.layout for one in each}) > 1:
        raise DataError(
            "--data-location: folders of different layouts",
            expected="the same layout in all of them",
            found=", ".join(f"{one.root}: {one.layout}" for one in each),
            next_step="set the layout that all have with --layout, or convert them to one layout",
        )
    tables = sorted({one.labels for one in each if one.labels is not None})
    if len(tables) > 1:
        raise DataError(
            "--data-location: tables of labels with different names",
            expected="a table of the same name in each folder",
            found=", ".join(f"{one.root}: {one.labels}" for one in each),
            next_step=f"give all of them the name {tables[0]}",
        )
    tests = sorted({one.test_location for one in each if one.test_location is not None})
    if len(tests) > 1:
        raise UsageError(
            "--data-location: several test sets",
            expected="one",
            found=", ".join(tests),
            next_step="set one with --test-location",
        )
    resolved = {"data_location": tuple(str(one.root) for one in each), "test_location": tests[0] if tests else None}
    return each[0].model_copy(update=resolved)


def _canonical_location(location: Path, schema: LayoutSchema) -> Path:
    """Return the parent folder of the images' folder, given that, the images' folder or the parent of `train/`."""
    images = images_folder(location, schema) if location.is_dir() else None
    if images is None:
        return location
    return images.parent if schema.images is not None and images.name == Path(schema.images).name else images


def _find_data_location(settings: DataSettings) -> DataSettings:
    """Set the data location to the first of `DEFAULT_LOCATIONS` with a built-in schema layout, if there is one."""
    for location in map(Path, DEFAULT_LOCATIONS):
        with suppress(UserError):  # The folder may be no data set at all.
            if match := _match_builtin(location, settings.layout):
                layout, images = match
                add_note("read as", f"--data-location is not set: using {images} (layout {layout})")
                return settings.model_copy(update={"data_location": str(location), "layout": layout})
    return settings


def _detect_layout(settings: DataSettings) -> dict[str, object]:
    """Return the layout that `auto` stands for, with the settings that it needs."""
    if settings.labels is not None:
        return {"layout": "csv"}
    if settings.data_location is not None and settings.root.is_dir():
        if match := _match_builtin(settings.root, AUTO):
            add_note("read as", f"layout {match[0]}: the names in {match[1]} match it")
            return {"layout": match[0]}
        if has_metadata(settings.root):
            add_note("read as", f"layout metadata: {settings.root} has a metadata file")
            return {"layout": "metadata"}
        if found := find_label_table(settings):
            return found
        add_note("read as", f"layout folder: {settings.root} has no table of labels and no metadata file")
    return {"layout": "folder"}


def _match_builtin(location: Path, layout: str) -> tuple[str, Path] | None:
    """Return the first built-in schema layout that a folder matches, and the folder of its images; None if none.

    Args:
        location: the folder; need not exist.
        layout: a built-in layout, or `auto` for all of them.
    """
    if location.is_dir():
        for name in BUILTIN if layout == AUTO else (layout,):
            schema = read_schema(name)
            images = images_folder(location, schema)
            if images is not None and matches_schema(images, schema):
                return name, images
    return None


def _find_test_folder(root: Path, schema: LayoutSchema) -> Path | None:
    """Return the schema's test folder in `root`, or beside `root` if that is `train/`; None if it does not exist."""
    if schema.test is None:
        return None
    candidates = [root / schema.test, *([root.parent / schema.test] if root.name == "train" else [])]
    return next((folder for folder in candidates if folder.is_dir()), None)
