"""Finding image files: what counts as one, what is passed over, and how a file is called in the samples table."""

import logging
import os
from collections.abc import Iterator
from pathlib import Path

from soups.core.errors import DataError, EnvironmentFailure, UsageError

logger = logging.getLogger(__name__)

# Pillow knows more, but some of them start other programs (EPS) or are documents (PDF).
IMAGE_ENDINGS = frozenset(
    [
        ".apng",
        ".avif",
        ".bmp",
        ".dib",
        ".gif",
        ".ico",
        ".jfif",
        ".jp2",
        ".jpe",
        ".jpeg",
        ".jpg",
        ".pbm",
        ".pgm",
        ".png",
        ".pnm",
        ".ppm",
        ".tga",
        ".tif",
        ".tiff",
        ".webp",
    ]
)
TEMPLATE_NAMES = ("sample_submission.csv", "info.csv")

_SYSTEM_FILES = {"thumbs.db", "desktop.ini", "__macosx", "__pycache__", "icon\r"}


class FolderListing:
    """One folder's visible content, each list in string order.

    Attributes:
        folders: paths of the folders in it.
        images: paths of what is an image by its ending; a pipe or a dead link of that name is one too, so that
            decoding can say what is wrong with it.
        others: paths of all other files, except submission templates.
        hidden: how many names are passed over: hidden ones, and what systems leave behind.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.folders: list[Path] = []
        self.images: list[Path] = []
        self.others: list[Path] = []
        self.hidden = 0
        for entry in _scan_folder(path):
            if entry.name.startswith(".") or entry.name.lower() in _SYSTEM_FILES:
                self.hidden += 1
                continue
            if not _is_table_text(entry.name):
                problem = f"{path}: the name {entry.name!r} cannot stand in a table"
                raise DataError(problem, expected="UTF-8 without a carriage return", next_step="rename it")
            if entry.is_dir():
                self.folders.append(path / entry.name)
            elif is_image_name(entry.name):
                self.images.append(path / entry.name)
            elif entry.name not in TEMPLATE_NAMES:
                self.others.append(path / entry.name)


def _scan_folder(path: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(path) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except PermissionError as error:
        hint = "change its permissions"
        raise EnvironmentFailure(f"{path}: no permission to look into it", next_step=hint) from error


def _is_table_text(name: str) -> bool:
    try:
        return bool(name.isascii() or name.encode()) and "\r" not in name
    except UnicodeEncodeError:
        return False


def is_image_name(name: str) -> bool:
    """Whether a file of this name is an image by its ending, in capitals or not."""
    return os.path.splitext(name)[1].lower() in IMAGE_ENDINGS  # noqa: PTH122 -- a Path per file costs ten times more.


def walk_folders(path: Path, above: frozenset[str] = frozenset()) -> Iterator[FolderListing]:
    """`path` and all folders below it, links followed; a link to a folder above is not entered again."""
    real = os.path.realpath(path)
    if real in above:
        return
    folder = FolderListing(path)
    yield folder
    for child in folder.folders:
        yield from walk_folders(child, above | {real})


def images_below(path: Path) -> tuple[list[Path], int]:
    """All image files at any depth, in string order of their paths, and the count of other files."""
    images, others = [], 0
    for folder in walk_folders(path):
        images += folder.images
        others += len(folder.others)
    return sorted(images, key=lambda image: image.as_posix()), others


def existing_folder(location: str | tuple[str, ...] | None, flag: str, expected: str) -> Path:
    """The folder that a flag names.

    Raises:
        UsageError: the flag is not given, or names several.
        DataError: it names nothing, or a file.
    """
    if location is None:
        raise UsageError(f"{flag} is not given", expected=expected)
    if not isinstance(location, str):
        raise UsageError(f"{flag} {' '.join(location)}: several", expected=f"one: {expected}")
    path = Path(location)
    if path.is_dir():
        return path
    if path.exists():
        raise DataError(f"{flag} {location}: is not a folder", expected=expected)
    raise DataError(f"{flag} {location}: no such folder", expected=expected, next_step="check the path")


def table_name(image: Path, data_location: Path) -> str:
    """How the samples table calls a file: its posix path from `data_location`, with `..` where it lies elsewhere."""
    if image.is_relative_to(data_location):
        return image.relative_to(data_location).as_posix()
    # The operating system resolves links before `..`, so both ends are resolved first; the file itself, which may
    # be a link, keeps its name.
    parent, root = os.path.realpath(image.parent), os.path.realpath(data_location)
    try:
        relative = os.path.relpath(parent, root)
    except ValueError:  # Another drive, on Windows.
        return Path(parent, image.name).as_posix()
    return Path(relative, image.name).as_posix()


def image_path(name: str, data_location: Path) -> Path:
    """The file that the samples table calls `name`."""
    return data_location / name


def lookup_keys(image: str) -> list[str]:
    """All names that an id may use for an image, the most telling first.

    `train/cat/a.png` → itself, `train/cat/a`, `cat/a.png`, `cat/a`, `a.png`, `a`.
    """
    parts = image.split("/")
    keys = []
    for start in range(len(parts)):
        name = "/".join(parts[start:])
        keys += [name, name[: -len(Path(image).suffix)]] if is_image_name(image) else [name]
    return keys


def format_list(items: list[str], limit: int = 10) -> str:
    """The items in one text, cut after `limit` with a count of the rest."""
    more = f", … and {len(items) - limit} more" if len(items) > limit else ""
    return ", ".join(items[:limit]) + more
