"""Layouts described by a schema: labels made of factors, parsed from image paths or from the rows of a table.

The schema itself is in `schema.py`."""

import logging
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from soups.core.errors import DataError
from soups.core.labels import SEPARATOR
from soups.data.layouts.image_files import FolderListing, existing_folder, table_name
from soups.data.layouts.schema import LayoutSchema, read_schema
from soups.data.layouts.tables import check_unique_ids, find_images, locate_table, table_column
from soups.data.settings import DataSettings
from soups.files.tables import read_table

if TYPE_CHECKING:
    import pandas as pd

logger = logging.getLogger(__name__)

_SHOWN_PROBLEMS = 10


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
    candidates = [folder for folder in (root / "train" / name, root / name) if folder.is_dir()]
    candidates += [root] if root not in candidates else []
    matching = [folder for folder in candidates if matches_schema(folder, schema)]
    if matching:
        return matching[0]
    return candidates[0] if candidates[0] != root or schema.images is None else None


def matches_schema(folder: Path, schema: LayoutSchema) -> bool:
    """Return whether any name in a folder matches the first part of the schema's path pattern."""
    content, first = FolderListing(folder), schema.expressions[0]
    if len(schema.parts) > 1:
        return any(first.fullmatch(child.name) for child in content.folders)
    return any(first.fullmatch(image.stem) for image in content.images)


class _ImageFields(NamedTuple):
    """Fields and levels parsed from a path or a table row, of one image or of all images of a folder."""

    fields: dict[str, str]
    """Field → value."""
    levels: dict[str, str]
    """Factor → level, for factors whose field is in `fields`."""

    def merge(self, other: "_ImageFields") -> "_ImageFields":
        """Return the union of both."""
        return _ImageFields(self.fields | other.fields, self.levels | other.levels)


@dataclass
class _Findings:
    """Problems and counts that are collected while folders are read."""

    problems: list[str] = field(default_factory=list)
    missing: dict[str, list[str]] = field(default_factory=dict)
    """Folder → values of the schema's `complete` field without an image."""
    skipped: int = 0
    """Number of files and folders that are ignored."""


def _read_paths(schema: LayoutSchema, images: Path, root: Path, skip_missing: bool) -> list[tuple[str, _ImageFields]]:
    """Return the table name and parsed fields of each image whose path matches the schema."""
    findings, rows = _Findings(), []
    for folder, folder_fields in _image_folders(schema, images, findings):
        values: Counter[str] = Counter()
        for image in folder.images:
            match = schema.expressions[-1].fullmatch(image.stem)
            parsed, unknown = _parse_levels(schema, match.groupdict() if match is not None else {})
            if match is None or unknown:
                findings.skipped += 1
                continue
            values[parsed.fields.get(schema.complete or "", "")] += 1
            rows.append((table_name(image, root), folder_fields.merge(parsed)))
        findings.skipped += len(folder.others) + len(folder.folders) + folder.hidden
        _note_incomplete(schema, folder.path.relative_to(images).as_posix(), values, findings)
    if findings.missing and not skip_missing:
        findings.problems += [f"{where}: no image {', '.join(values)}" for where, values in findings.missing.items()]
    if findings.problems or not rows:
        _raise_problems(schema, images, findings.problems)
    if findings.missing:
        count = sum(map(len, findings.missing.values()))
        logger.warning("%s: continuing without %d missing images", images, count)
    if findings.skipped:
        logger.info("%s: skipped %d hidden files and names that do not match the layout", images, findings.skipped)
    return rows


def _image_folders(
    schema: LayoutSchema, images: Path, findings: _Findings
) -> Iterator[tuple[FolderListing, _ImageFields]]:
    """Yield the folders that hold images, with the fields parsed from their names."""
    level = [(FolderListing(images), _ImageFields({}, {}))]
    for part, expression in zip(schema.parts[:-1], schema.expressions[:-1], strict=True):
        below = []
        for folder, folder_fields in level:
            findings.skipped += len(folder.images) + len(folder.others) + folder.hidden
            for child in folder.folders:
                name, match = child.relative_to(images).as_posix(), expression.fullmatch(child.name)
                if match is None:
                    findings.problems.append(f"{name}: the name does not match {part}")
                    continue
                parsed, unknown = _parse_levels(schema, match.groupdict())
                findings.problems += [f"{name}: {problem}" for problem in unknown]
                if not unknown:
                    below.append((FolderListing(child), folder_fields.merge(parsed)))
        level = below
    yield from level


def _parse_levels(schema: LayoutSchema, fields: dict[str, str]) -> tuple[_ImageFields, list[str]]:
    """Return fields with the levels they stand for, and a problem for each field without a level."""
    levels, problems = {}, []
    for name, factor in schema.factors.items():
        if factor.field in fields:
            level = factor.level(fields[factor.field])
            if level is None:
                problems.append(f"{factor.field} is {fields[factor.field]!r}, expected {factor.expected_values}")
            else:
                levels[name] = level
    return _ImageFields(fields, levels), problems


def _note_incomplete(schema: LayoutSchema, where: str, values: Counter[str], findings: _Findings) -> None:
    """Add missing and repeated values of the schema's `complete` field in one folder to the findings."""
    if schema.complete is None:
        return
    if missing := [value for value in schema.values_of(schema.complete) if not values[value]]:
        findings.missing[where] = missing
    if repeated := [value for value, times in values.items() if times > 1]:
        findings.problems.append(f"{where}: {values[repeated[0]]} images {repeated[0]}")


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


def _read_rows(schema: LayoutSchema, settings: DataSettings, root: Path) -> list[tuple[str, _ImageFields]]:
    """Return the table name of the image in each row of the schema's table, and the row's parsed fields."""
    path = locate_table(schema.table or "", root)
    table = read_table(path)
    source = f"the layout {settings.layout}"
    ids = table_column(table, schema.image, path, source)
    check_unique_ids(ids, path)
    names = dict.fromkeys([*(factor.field for factor in schema.factors.values()), schema.group or ""])
    columns = {name: table_column(table, name, path, source) for name in names if name}
    problems, rows = [], []
    for number, image in enumerate(find_images(ids, path, [root], root)):
        parsed, unknown = _parse_levels(schema, {name: cells[number] for name, cells in columns.items()})
        problems += [f"row {number + 2}: {problem}" for problem in unknown]
        rows.append((image, parsed))
    if problems or not rows:
        _raise_problems(schema, path, problems)
    return rows


def _samples_table(rows: list[tuple[str, _ImageFields]], schema: LayoutSchema) -> "pd.DataFrame":
    import pandas as pd

    names, group = list(schema.factors), schema.group
    content = [
        {
            "image": image,
            "label": SEPARATOR.join(parsed.levels[name] for name in names),
            "group": parsed.fields[group] if group is not None else "",
            "split": "",
            **parsed.levels,
        }
        for image, parsed in rows
    ]
    table = pd.DataFrame(content, columns=["image", "label", "group", "split", *names], dtype=str)
    return table.sort_values("image", ignore_index=True)
