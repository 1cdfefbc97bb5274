"""Image files in folders: which files are images, which are ignored, and their names in the samples table."""

import os
import re
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from soups.core.errors import DataError, EnvironmentFailure, UsageError

# Pillow supports more, but some formats start other programs (EPS) or are documents (PDF).
_FORMATS = "apng avif bmp dib gif ico jfif jp2 jpe jpeg jpg pbm pgm png pnm ppm tga tif tiff webp"
IMAGE_ENDINGS = frozenset(f".{name}" for name in _FORMATS.split())
TEMPLATE_NAMES = ("sample_submission.csv", "info.csv")

_SYSTEM_FILES = {"thumbs.db", "desktop.ini", "__macosx", "__pycache__", "icon\r"}
_NOT_IN_TABLES = re.compile("[\r\ud800-\udfff]")
"""A carriage return, or a byte of a file name that is not UTF-8."""


class FolderListing:
    """The visible content of one folder; each list is sorted as strings.

    Attributes:
        folders: paths of sub-folders.
        images: paths with the file extension of an image, including pipes and broken links, so that decoding reports
            what is wrong with them.
        others: paths of all other files, except submission templates.
        hidden: number of ignored entries: hidden files and files of operating systems (`Thumbs.db`).
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.folders: list[Path] = []
        self.images: list[Path] = []
        self.others: list[Path] = []
        self.hidden = 0
        try:
            with os.scandir(path) as scanned:
                entries = sorted(scanned, key=lambda entry: entry.name)
        except PermissionError as error:
            next_step = "change its permissions"
            raise EnvironmentFailure(f"{path}: no permission to read the folder", next_step=next_step) from error
        for entry in entries:
            if entry.name.startswith(".") or entry.name.lower() in _SYSTEM_FILES:
                self.hidden += 1
                continue
            if _NOT_IN_TABLES.search(entry.name):
                problem = f"{path}: the name {entry.name!r} cannot be written into a table"
                raise DataError(problem, expected="UTF-8 without a carriage return", next_step="rename it")
            if entry.is_dir():
                self.folders.append(path / entry.name)
            elif is_image_name(entry.name):
                self.images.append(path / entry.name)
            elif entry.name not in TEMPLATE_NAMES:
                self.others.append(path / entry.name)


def is_image_name(name: str) -> bool:
    """Return whether a file name has the extension of an image, in upper or lower case."""
    return os.path.splitext(name)[1].lower() in IMAGE_ENDINGS  # noqa: PTH122 -- a Path per file is ten times slower.


def images_below(path: Path) -> tuple[list[Path], int]:
    """Return all image files at any depth, sorted by path as strings, and the number of other files.

    Follows links except to a parent folder.
    """
    images, others = [], 0
    pending: list[tuple[Path, frozenset[str]]] = [(path, frozenset())]
    while pending:
        current, above = pending.pop()
        real = os.path.realpath(current)
        if real not in above:
            folder = FolderListing(current)
            images += folder.images
            others += len(folder.others)
            pending += [(child, above | {real}) for child in folder.folders]
    return sorted(images, key=lambda image: image.as_posix()), others


def existing_folder(location: str | tuple[str, ...] | None, flag: str, expected: str) -> Path:
    """Return the path of the folder that a flag names.

    Args:
        location: the flag's value.
        flag: the flag, for messages.
        expected: what the folder should contain, for messages.

    Raises:
        UsageError: the flag is not set, or names several folders.
        DataError: the path does not exist or is a file.
    """
    if location is None:
        raise UsageError(f"{flag} is not set", expected=expected)
    if not isinstance(location, str):
        raise UsageError(f"{flag} {' '.join(location)}: several folders", expected=f"one: {expected}")
    path = Path(location)
    if path.is_dir():
        return path
    if path.exists():
        raise DataError(f"{flag} {location}: is not a folder", expected=expected)
    raise DataError(f"{flag} {location}: no such folder", expected=expected, next_step="check the path")


def table_name(image: Path, data_location: Path) -> str:
    """Return a file's name in the samples table: its posix path relative to `data_location`, with `..` if outside."""
    if image.is_relative_to(data_location):
        return image.relative_to(data_location).as_posix()
    # The operating system resolves links before `..`, so both folders are resolved first. The file may be a link and is
    # not resolved.
    parent, root = os.path.realpath(image.parent), os.path.realpath(data_location)
    try:
        relative = os.path.relpath(parent, root)
    except ValueError:  # Another drive, on Windows.
        return Path(parent, image.name).as_posix()
    return Path(relative, image.name).as_posix()


def lookup_keys(image: str) -> list[str]:
    """Return all ids that may refer to an image, the most specific first.

    `train/cat/a.png` → itself, `train/cat/a`, `cat/a.png`, `cat/a`, `a.png`, `a`.
    """
    parts, suffix = image.split("/"), Path(image).suffix
    names = ["/".join(parts[start:]) for start in range(len(parts))]
    return [key for name in names for key in (name, name.removesuffix(suffix))] if is_image_name(image) else names


def positions_by_key(images: Iterable[str]) -> dict[str, list[int]]:
    """Return for each of the `lookup_keys` of N images the positions of the images that it may refer to."""
    positions: defaultdict[str, list[int]] = defaultdict(list)
    for position, image in enumerate(images):
        for key in lookup_keys(image):
            positions[key].append(position)
    return positions


def format_list(items: list[str], limit: int = 10) -> str:
    """Join items with commas; after `limit` items, add the count of the rest."""
    more = f", … and {len(items) - limit} more" if len(items) > limit else ""
    return ", ".join(items[:limit]) + more
