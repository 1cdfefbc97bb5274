"""Image files in folders: which files are images, which are ignored, and their names in the samples table."""

import os
import re
import shlex
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from soups.core.errors import DataError, EnvironmentFailure, UsageError
from soups.core.notes import add_note
from soups.files.tables import canonical_id

# Pillow supports more, but some formats start other programs (EPS) or are documents (PDF).
_FORMATS = "apng bmp dib gif ico j2k jfif jp2 jpe jpeg jpg mpo pbm pgm png pnm ppm tga tif tiff webp"
_ENDINGS = frozenset(f".{name}" for name in _FORMATS.split())
_OPTIONAL = {".avif": "pip install --upgrade pillow", **dict.fromkeys((".heic", ".heif"), "pip install pillow-heif")}
"""Ending → command that makes it readable."""
_OTHER_FORMATS = "arw cr2 cr3 dng exr hdr jxl nef orf psd raf rw2 svg"
_CONVERTIBLE = frozenset(f".{name}" for name in _OTHER_FORMATS.split())
_ORDINARY_ENDING = re.compile(r"\.[a-z][a-z0-9]{0,9}", re.IGNORECASE)
_MAGIC = re.compile(
    rb"\xff\xd8\xff|\x89PNG\r\n\x1a\n|GIF8[79]a|BM.{4}\0{4}|RIFF.{4}WEBP|II\*\0|MM\0\*|\0\0\0\x0cjP  ", re.DOTALL
)
"""First bytes of JPEG, PNG, GIF, BMP, WebP, TIFF and JPEG 2000."""
TEMPLATE_NAMES = ("sample_submission.csv", "info.csv")

_TAR_ENDINGS = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
_SYSTEM_FILES = {"thumbs.db", "desktop.ini", "__macosx", "__pycache__", "@eadir", "lost+found", "icon\r"}
_TOOL_FOLDERS = {
    *("runs", "wandb", "mlruns", "lightning_logs", "tb_logs", "tensorboard", "checkpoints", "cache", "caches"),
    *("node_modules", "site-packages"),
}
_NOT_IN_TABLES = re.compile("[\r\ud800-\udfff]")
"""A carriage return, or a byte of a file name that is not UTF-8."""


class FolderListing:
    """The visible content of one folder; each list is sorted as strings.

    Attributes:
        folders: paths of sub-folders.
        images: paths with the file extension of an image, including pipes and broken links, so that decoding reports
            what is wrong with them; and files without a usual extension whose first bytes are those of an image.
        others: paths of all other files, except submission templates.
        tools: paths of folders that never hold data: runs, and what tracking tools and virtual environments write.
        hidden: number of ignored entries: hidden files and files of operating systems (`Thumbs.db`).
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.folders: list[Path] = []
        self.images: list[Path] = []
        self.others: list[Path] = []
        self.tools: list[Path] = []
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
                (self.tools if _is_tool_folder(entry) else self.folders).append(path / entry.name)
            elif is_image_name(entry.name) or _is_unnamed_image(entry):
                self.images.append(path / entry.name)
            elif entry.name not in TEMPLATE_NAMES:
                self.others.append(path / entry.name)


def is_image_name(name: str) -> bool:
    """Return whether a file name has the extension of an image that can be read, in upper or lower case."""
    ending = os.path.splitext(name)[1].lower()  # noqa: PTH122 -- a Path per file is ten times slower.
    return ending in _ENDINGS or (ending in _OPTIONAL and _can_read(ending))


@cache
def _can_read(ending: str) -> bool:
    """Return whether the installed packages read images with an ending of `_OPTIONAL`."""
    if ending != ".avif":
        return find_spec("pillow_heif") is not None
    from PIL import features

    return bool(features.check("avif"))


def _is_unnamed_image(entry: "os.DirEntry[str]") -> bool:
    """Return whether a regular file without a usual ending (`0012`, `a.jpg_large`) begins like an image."""
    ending = os.path.splitext(entry.name)[1]  # noqa: PTH122 -- as above.
    if (ending and _ORDINARY_ENDING.fullmatch(ending)) or not entry.is_file():
        return False
    try:
        with open(entry.path, "rb") as stream:  # noqa: PTH123 -- as above.
            return _MAGIC.match(stream.read(16)) is not None
    except OSError:
        return False


def _is_tool_folder(entry: "os.DirEntry[str]") -> bool:
    """Return whether a folder belongs to a tool by its name, or is a virtual environment or a run."""
    if entry.name.lower() in _TOOL_FOLDERS or os.path.exists(f"{entry.path}/pyvenv.cfg"):  # noqa: PTH110 -- as above.
        return True
    return all(os.path.exists(f"{entry.path}/{name}") for name in ("samples.csv", "settings.yaml"))  # noqa: PTH110


def folder_names(path: str | Path) -> list[str]:
    """Return the names of the visible folders in a folder; none if it cannot be read."""
    try:
        with os.scandir(path) as entries:
            return sorted(entry.name for entry in entries if entry.is_dir() and not entry.name.startswith("."))
    except OSError:
        return []


def images_below(path: Path) -> tuple[list[Path], list[Path]]:
    """Return all image files at any depth, sorted by path as strings, and all other files.

    Follows links except to a parent folder. Folders of tools are left out.
    """
    images, others = [], []
    pending: list[tuple[Path, frozenset[str]]] = [(path, frozenset())]
    while pending:
        current, above = pending.pop()
        real = os.path.realpath(current)
        if real not in above:
            folder = FolderListing(current)
            images += folder.images
            others += folder.others
            pending += [(child, above | {real}) for child in folder.folders]
    return sorted(images, key=lambda image: image.as_posix()), others


def count_endings(files: Sequence[Path]) -> str:
    """Return the number of files of each ending with an example, the most frequent first: `30 .heic (x0.heic)`."""
    counts = Counter(path.suffix.lower() for path in files)
    example = {path.suffix.lower(): path.name for path in reversed(files)}
    parts = [f"{count:,} {ending or 'without ending'} ({example[ending]})" for ending, count in counts.most_common()]
    return format_list(parts, 5)


def how_to_read(files: Iterable[Path]) -> str:
    """Return the next step for files in formats of images that cannot be read; "" if there are none."""
    endings = sorted({path.suffix.lower() for path in files})
    steps = dict.fromkeys(_OPTIONAL[ending] for ending in endings if ending in _OPTIONAL)
    others = [ending for ending in endings if ending in _CONVERTIBLE]
    steps |= dict.fromkeys(f"convert them: magick mogrify -format png *{ending}" for ending in others)
    return ", or ".join(steps)


def note_left_out(folder: Path, others: Sequence[Path]) -> None:
    """Say which files of a data set are not used because they are no readable images."""
    if others:
        step = how_to_read(others)
        text = f"{folder}: left out {len(others):,} files that are no images that can be read: {count_endings(others)}"
        add_note("left out", text + (f"; to read them: {step}" if step else ""), warning=bool(step))


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
        raise DataError(
            f"{flag} {location}: is not a folder", expected=expected, next_step=_instead_of_a_file(path, flag)
        )
    raise DataError(f"{flag} {location}: no such folder", expected=expected, next_step="check the path")


def _instead_of_a_file(path: Path, flag: str) -> str:
    """Return the next step for a file that was given instead of a folder."""
    name, folder = path.name.lower(), path.parent
    if unpack := unpack_command(path):
        return f"unpack it and pass the folder: {unpack}"
    if name.endswith((".csv", ".tsv")):
        command = shlex.join(["--data-location", str(folder), "--labels", path.name])
        return f"if it is the table of labels: {command}"
    return f"pass the folder: {flag} {shlex.quote(str(folder))}"


def unpack_command(path: Path) -> str:
    """Return the command that unpacks an archive into a folder beside it; "" for other files."""
    for endings, command in (((".zip",), "unzip -q {} -d {}"), (_TAR_ENDINGS, "mkdir -p {1} && tar -xf {0} -C {1}")):
        if ending := next((ending for ending in endings if path.name.lower().endswith(ending)), ""):
            return command.format(shlex.quote(str(path)), shlex.quote(str(path)[: -len(ending)]))
    return ""


def table_name(image: Path, data_location: Path) -> str:
    """Return a file's name in the samples table: its posix path relative to `data_location`, with `..` if outside."""
    text, root = image.as_posix(), data_location.as_posix()
    if text.startswith(f"{root}/") and "/../" not in text:  # Without a Path for each of many images.
        return text[len(root) + 1 :]
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
    """Return all ids that may refer to an image, the most specific first, in the form of `canonical_id`.

    `train/cat/a.png` → itself, `train/cat/a`, `cat/a.png`, `cat/a`, `a.png`, `a`.
    """
    image = canonical_id(image)
    parts, ending = image.split("/"), os.path.splitext(image)[1]  # noqa: PTH122 -- as above.
    names = ["/".join(parts[start:]) for start in range(len(parts))]
    return [key for name in names for key in (name, name.removesuffix(ending))] if is_image_name(image) else names


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
