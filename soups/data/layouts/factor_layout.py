"""Layouts that a description tells: labels made of factors, read from the images' paths or from a table."""

import logging
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from soups.core.errors import DataError
from soups.core.labels import SEPARATOR
from soups.data.layouts.folders import FolderListing, existing_folder, table_name
from soups.data.layouts.schema import LayoutSchema, read_schema
from soups.data.layouts.tables import check_unique_ids, find_images, locate_table, table_column
from soups.data.settings import DataSettings
from soups.files.atomic import read_table

if TYPE_CHECKING:
    import pandas as pd

logger = logging.getLogger(__name__)

_SHOWN_PROBLEMS = 10


def factor_samples(settings: DataSettings) -> "pd.DataFrame":
    """The table of a data set that a description fits: with a column of levels for each factor beside the label.

    Raises:
        UsageError: the description is not there or describes nothing.
        DataError: a folder that does not fit the pattern, a field that means no level, an image that is missing or
            there twice; names all of them.
    """
    description = read_schema(settings.layout, settings.age_bands)
    root = existing_folder(settings.data_location, "--data-location", f"images laid out as {settings.layout} says")
    if description.table is not None:
        return _samples_table(_read_rows(description, settings, root), description)
    images = images_folder(root, description)
    if images is None:
        raise DataError(
            f"{root}: no folder of images as the layout {settings.layout} has it",
            expected=f"{description.images or root}/{description.path}",
            next_step="check --data-location, or give another --layout",
        )
    return _samples_table(_read_paths(description, images, root, settings.skip_bad_images), description)


def factor_test_samples(settings: DataSettings) -> "pd.DataFrame | None":
    """The table of labelled test images at `--test-location`, where they are laid out in the same way; None elsewhere.

    Raises:
        DataError: as `factor_samples`.
    """
    description, location = read_schema(settings.layout, settings.age_bands), Path(settings.test_location or "")
    images = images_folder(location, description) if description.path is not None and location.is_dir() else None
    if images is None or not matches_schema(images, description):
        return None
    rows = _read_paths(description, images, settings.root, settings.skip_bad_images)
    return _samples_table(rows, description).assign(split="test")


def images_folder(root: Path, description: LayoutSchema) -> Path | None:
    """The folder in which the description's pattern begins.

    `root/train/<images>`, `root/<images>` or `root` itself: the first that holds something of the pattern, else the
    first that is there.
    """
    name = description.images or "."
    places = [place for place in (root / "train" / name, root / name) if place.is_dir()]
    places += [root] if root not in places else []
    fitting = [place for place in places if matches_schema(place, description)]
    if fitting:
        return fitting[0]
    return places[0] if places[0] != root or description.images is None else None


def matches_schema(folder: Path, description: LayoutSchema) -> bool:
    """Whether anything in a folder is named as the pattern's first part says."""
    content, first = FolderListing(folder), description.expressions[0]
    if len(description.parts) > 1:
        return any(first.fullmatch(child.name) for child in content.folders)
    return any(first.fullmatch(image.stem) for image in content.images)


class _ImageFields(NamedTuple):
    """What names or cells tell of an image, or of all images of a folder."""

    fields: dict[str, str]
    levels: dict[str, str]
    """Factor → level, as far as the fields tell it."""

    def and_of(self, other: "_ImageFields") -> "_ImageFields":
        """Both together."""
        return _ImageFields(self.fields | other.fields, self.levels | other.levels)


@dataclass
class _Findings:
    """What was met on the way through the folders."""

    problems: list[str] = field(default_factory=list)
    missing: dict[str, list[str]] = field(default_factory=dict)
    """Folder → the values of the field of which it lacks the image."""
    skipped: int = 0


def _read_paths(
    description: LayoutSchema, images: Path, root: Path, without_missing: bool
) -> list[tuple[str, _ImageFields]]:
    """The name of each image whose path fits, and what it tells."""
    walk, rows = _Findings(), []
    for folder, told in _image_folders(description, images, walk):
        values: Counter[str] = Counter()
        for image in folder.images:
            match = description.expressions[-1].fullmatch(image.stem)
            own, unknown = _parse_levels(description, match.groupdict() if match is not None else {})
            if match is None or unknown:
                walk.skipped += 1
                continue
            values[own.fields.get(description.complete or "", "")] += 1
            rows.append((table_name(image, root), told.and_of(own)))
        walk.skipped += len(folder.others) + len(folder.folders) + folder.hidden
        _note_incomplete(description, folder.path.relative_to(images).as_posix(), values, walk)
    if walk.missing and not without_missing:
        walk.problems += [f"{where}: no image {', '.join(lacking)}" for where, lacking in walk.missing.items()]
    if walk.problems or not rows:
        _raise_problems(description, images, walk.problems)
    if walk.missing:
        logger.warning("%s: goes on without %d images that are missing", images, sum(map(len, walk.missing.values())))
    if walk.skipped:
        logger.info("%s: %d hidden files and unknown names are left out", images, walk.skipped)
    return rows


def _image_folders(
    description: LayoutSchema, images: Path, walk: _Findings
) -> Iterator[tuple[FolderListing, _ImageFields]]:
    """The folders that hold images, and what their names tell."""
    level = [(FolderListing(images), _ImageFields({}, {}))]
    for part, expression in zip(description.parts[:-1], description.expressions[:-1], strict=True):
        below = []
        for folder, told in level:
            walk.skipped += len(folder.images) + len(folder.others) + folder.hidden
            for child in folder.folders:
                name, match = child.relative_to(images).as_posix(), expression.fullmatch(child.name)
                if match is None:
                    walk.problems.append(f"{name}: is not named {part}")
                    continue
                own, unknown = _parse_levels(description, match.groupdict())
                walk.problems += [f"{name}: {problem}" for problem in unknown]
                if not unknown:
                    below.append((FolderListing(child), told.and_of(own)))
        level = below
    yield from level


def _parse_levels(description: LayoutSchema, fields: dict[str, str]) -> tuple[_ImageFields, list[str]]:
    """What fields tell, and the problems with those that mean no level."""
    levels, problems = {}, []
    for name, factor in description.factors.items():
        if factor.field in fields:
            level = factor.level(fields[factor.field])
            if level is None:
                problems.append(f"{factor.field} is {fields[factor.field]!r}, expected {factor.expected}")
            else:
                levels[name] = level
    return _ImageFields(fields, levels), problems


def _note_incomplete(description: LayoutSchema, where: str, values: Counter[str], walk: _Findings) -> None:
    if description.complete is None:
        return
    wanted = description.values_of(description.complete)
    if lacking := [value for value in wanted if not values[value]]:
        walk.missing[where] = lacking
    if doubled := [value for value, times in values.items() if times > 1]:
        walk.problems.append(f"{where}: {values[doubled[0]]} images {doubled[0]}")


def _raise_problems(description: LayoutSchema, where: Path, problems: list[str]) -> None:
    if not problems:
        raise DataError(f"{where}: no images in it", expected=f"{where}/{description.path}")
    shown = "".join(f"\n  {problem}" for problem in problems[:_SHOWN_PROBLEMS])
    more = f"\n  … and {len(problems) - _SHOWN_PROBLEMS} more" if len(problems) > _SHOWN_PROBLEMS else ""
    raise DataError(
        f"{where}: not as the layout has it:{shown}{more}",
        expected=str(description.path or "values of its columns that mean levels"),
        next_step="mend the names or take them out; --skip-bad-images goes on without images that are missing",
    )


def _read_rows(description: LayoutSchema, settings: DataSettings, root: Path) -> list[tuple[str, _ImageFields]]:
    """The image of each row of the description's table, and what the row tells."""
    path = locate_table(description.table or "", root)
    table = read_table(path)
    asked = f"the layout {settings.layout}"
    ids = table_column(table, description.image, path, asked)
    check_unique_ids(ids, path)
    wanted = dict.fromkeys([*(factor.field for factor in description.factors.values()), description.group or ""])
    columns = {name: table_column(table, name, path, asked) for name in wanted if name}
    problems, rows = [], []
    for number, image in enumerate(find_images(ids, path, [root], root)):
        told, unknown = _parse_levels(description, {name: cells[number] for name, cells in columns.items()})
        problems += [f"row {number + 2}: {problem}" for problem in unknown]
        rows.append((image, told))
    if problems or not rows:
        _raise_problems(description, path, problems)
    return rows


def _samples_table(rows: list[tuple[str, _ImageFields]], description: LayoutSchema) -> "pd.DataFrame":
    import pandas as pd

    names, group = list(description.factors), description.group
    content = [
        {
            "image": image,
            "label": SEPARATOR.join(told.levels[name] for name in names),
            "group": told.fields[group] if group is not None else "",
            "split": "",
            **told.levels,
        }
        for image, told in rows
    ]
    table = pd.DataFrame(content, columns=["image", "label", "group", "split", *names], dtype=str)
    return table.sort_values("image", ignore_index=True)
