"""Layouts described by a schema: labels made of factors, parsed from image paths or from the rows of a table.

The schema itself is in `schema.py`."""

import logging
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from soups.core.errors import DataError
from soups.core.labels import SEPARATOR
from soups.data.layouts.columns import table_column
from soups.data.layouts.image_files import FolderListing, existing_folder, table_name
from soups.data.layouts.image_search import ImageSearch, find_images
from soups.data.layouts.schema import LayoutSchema, read_schema
from soups.data.layouts.tables import check_unique_ids, locate_table
from soups.data.settings import DataSettings
from soups.files.tables import read_table

if TYPE_CHECKING:
    import pandas as pd

logger = logging.getLogger(__name__)

_SHOWN_PROBLEMS = 10

_Row = tuple[str, dict[str, str]]
"""Name of an image in the samples table, and the fields in its path or table row: field → value."""


def factor_samples(settings: DataSettings) -> "pd.DataFrame":
    """Read a data set described by a schema, with a column of levels for each factor.

    Raises:
        UsageError: the schema file does not exist or is invalid.
        DataError: folders do not match the pattern, fields have no level, or images are missing or duplicated; lists
            them.
    """
    schema = read_schema(settings.layout, settings.age_bands)
    root = existing_folder(settings.data_location, "--data-location", f"images in the layout {settings.layout}")
    if schema.table is not None:
        return _samples_table(_read_rows(schema, settings, root), schema)
    images = images_folder(root, schema)
    if images is None:
        raise DataError(
            f"{root}: no folder of images in the layout {settings.layout}",
            expected=f"{schema.images or root}/{schema.path}",
            next_step="check --data-location, or set another --layout",
        )
    return _samples_table(_read_paths(schema, images, root, settings.skip_bad_images), schema)


def factor_test_samples(settings: DataSettings) -> "pd.DataFrame | None":
    """Read labelled test images at `--test-location` in the same layout; None if they have another layout.

    Raises:
        DataError: as `factor_samples`.
    """
    schema, location = read_schema(settings.layout, settings.age_bands), Path(settings.test_location or "")
    images = images_folder(location, schema) if schema.path is not None and location.is_dir() else None
    if images is None or not matches_schema(images, schema):
        return None
    rows = _read_paths(schema, images, settings.root, settings.skip_bad_images)
    return _samples_table(rows, schema).assign(split="test")


def images_folder(root: Path, schema: LayoutSchema) -> Path | None:
    """Return the folder that the schema's path pattern is relative to; None if there is none.

    Of the existing folders among `root/train/<images>`, `root/<images>` and `root`: the first with a name that matches
    the pattern, else the first.
    """
    name = schema.images or "."
    # The last two are equal if the schema names no folder.
    candidates = [folder for folder in dict.fromkeys([root / "train" / name, root / name, root]) if folder.is_dir()]
    if matching := [folder for folder in candidates if matches_schema(folder, schema)]:
        return matching[0]
    return candidates[0] if candidates[0] != root or schema.images is None else None


def matches_schema(folder: Path, schema: LayoutSchema) -> bool:
    """Return whether any name in a folder matches the first part of the schema's path pattern."""
    content = FolderListing(folder)
    names = [path.name for path in content.folders] if len(schema.parts) > 1 else [path.stem for path in content.images]
    return any(map(schema.expressions[0].fullmatch, names))


def _read_paths(schema: LayoutSchema, images: Path, root: Path, skip_missing: bool) -> list[_Row]:
    """Return a row for each image whose path matches the schema."""
    folders, problems, skipped = _image_folders(schema, images)
    rows: list[_Row] = []
    missing: dict[str, list[str]] = {}
    for folder, folder_fields in folders:
        where = folder.path.relative_to(images).as_posix()
        values: Counter[str] = Counter()
        for image in folder.images:
            match = schema.expressions[-1].fullmatch(image.stem)
            own = match.groupdict() if match is not None else {}
            if match is None or _level_problems(schema, own):
                skipped += 1
            else:
                rows.append((table_name(image, root), folder_fields | own))
                values[own.get(schema.complete or "", "")] += 1
        skipped += len(folder.others) + len(folder.folders) + folder.hidden
        if schema.complete is not None:
            missing[where] = [value for value in schema.values_of(schema.complete) if not values[value]]
            problems += [f"{where}: {times} images {value}" for value, times in values.items() if times > 1]
    if not skip_missing:
        problems += [f"{where}: no image {', '.join(values)}" for where, values in missing.items() if values]
    if problems or not rows:
        _raise_problems(schema, images, problems)
    if any(missing.values()):
        logger.warning("%s: continuing without %d missing images", images, sum(map(len, missing.values())))
    if skipped:
        logger.info("%s: skipped %d hidden files and names that do not match the layout", images, skipped)
    return rows


def _image_folders(
    schema: LayoutSchema, images: Path
) -> tuple[list[tuple[FolderListing, dict[str, str]]], list[str], int]:
    """Return the folders that hold images with the fields in their names, problems, and the number of skipped files."""
    level: list[tuple[FolderListing, dict[str, str]]] = [(FolderListing(images), {})]
    problems: list[str] = []
    skipped = 0
    for part, expression in zip(schema.parts[:-1], schema.expressions[:-1], strict=True):
        below = []
        for folder, fields in level:
            skipped += len(folder.images) + len(folder.others) + folder.hidden
            for child in folder.folders:
                match = expression.fullmatch(child.name)
                own = match.groupdict() if match is not None else {}
                unknown = _level_problems(schema, own) if match is not None else [f"the name does not match {part}"]
                if not unknown:
                    below.append((FolderListing(child), fields | own))
                problems += [f"{child.relative_to(images).as_posix()}: {problem}" for problem in unknown]
        level = below
    return level, problems, skipped


def _level_problems(schema: LayoutSchema, fields: dict[str, str]) -> list[str]:
    """Return a problem for each of the fields whose value has no level."""
    return [
        f"{factor.field} is {fields[factor.field]!r}, expected {factor.expected_values}"
        for factor in schema.factors.values()
        if factor.field in fields and factor.level(fields[factor.field]) is None
    ]


def _raise_problems(schema: LayoutSchema, where: Path, problems: list[str]) -> None:
    if not problems:
        raise DataError(f"{where}: no images in it", expected=f"{where}/{schema.path}")
    shown = "".join(f"\n  {problem}" for problem in problems[:_SHOWN_PROBLEMS])
    more = f"\n  … and {len(problems) - _SHOWN_PROBLEMS} more" if len(problems) > _SHOWN_PROBLEMS else ""
    raise DataError(
        f"{where}: does not match the layout:{shown}{more}",
        expected=str(schema.path or "column values that stand for levels"),
        next_step="correct or remove these names; --skip-bad-images continues without images that are missing",
    )


def _read_rows(schema: LayoutSchema, settings: DataSettings, root: Path) -> list[_Row]:
    """Return a row for each row of the schema's table."""
    path = locate_table(schema.table or "", root)
    table = read_table(path)
    source = f"the layout {settings.layout}"
    ids = table_column(table, schema.image, path, source)
    check_unique_ids(ids, path)
    names = dict.fromkeys([*(factor.field for factor in schema.factors.values()), schema.group or ""])
    columns = {name: table_column(table, name, path, source) for name in names if name}
    fields = [dict(zip(columns, cells, strict=True)) for cells in zip(*columns.values(), strict=True)]
    rows = list(zip(find_images(ids, path, ImageSearch([root], root)), fields, strict=True))
    problems = [
        f"row {number}: {problem}" for number, row in enumerate(fields, 2) for problem in _level_problems(schema, row)
    ]
    if problems or not rows:
        _raise_problems(schema, path, problems)
    return rows


def _samples_table(rows: list[_Row], schema: LayoutSchema) -> "pd.DataFrame":
    import pandas as pd

    content = []
    for image, fields in rows:
        levels = {name: str(factor.level(fields[factor.field])) for name, factor in schema.factors.items()}
        group = fields[schema.group] if schema.group is not None else ""
        label = SEPARATOR.join(levels.values())
        content.append({"image": image, "label": label, "group": group, "split": "", **levels})
    table = pd.DataFrame(content, columns=["image", "label", "group", "split", *schema.factors], dtype=str)
    return table.sort_values("image", ignore_index=True)
