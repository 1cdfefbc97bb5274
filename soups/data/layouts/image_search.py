"""Search for the images that the ids of a table refer to: by path, by the end of the path, or by number."""

import os
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path

from soups.core.errors import DataError
from soups.core.notes import add_note
from soups.data.layouts.image_files import format_list, images_below, positions_by_key, table_name
from soups.files.tables import canonical_id

_NUMBER = re.compile(r"0*(\d+?)(\.0+)?")
_ENDING = re.compile(r"\.[a-zA-Z]{2,5}")

_Positions = dict[str, list[int]]


class ImageSearch:
    """The images below some folders.

    Args:
        folders: folders to search; the first with a match is used.
        root: the data location, which names in the samples table are relative to.
    """

    def __init__(self, folders: Sequence[Path], root: Path) -> None:
        self.folders, self.root = folders, root

    def find(self, name: str) -> list[Path]:
        """Return the images that an id may refer to: a path or file name, with or without file extension."""
        for folder in self.folders:
            if os.path.isfile(os.path.join(folder, name)):  # noqa: PTH113, PTH118 -- fast, and False for names that are no paths.
                return [folder / name]
        for images, positions in self._indices:
            if matches := positions.get(canonical_id(name)):
                return [images[position] for position in matches]
        return []

    def is_image(self, name: str) -> bool:
        """Return whether an id refers to an image, if only but for case and ending; numbers must match as they are."""
        return bool(self.find(name)) or (not _NUMBER.fullmatch(name) and len(self.find_similar(name)) == 1)

    def find_similar(self, name: str) -> list[Path]:
        """Return the images of a number without leading zeros and decimals, else of a name but for case and ending."""
        name = canonical_id(name)
        number = _NUMBER.fullmatch(name)
        stem, ending = os.path.splitext(name)  # noqa: PTH122 -- a Path per id is slower.
        for images, numbers, names in self._similar:
            matches = numbers.get(number[1], []) if number else []
            matches = matches or names.get((stem if _ENDING.fullmatch(ending) else name).casefold(), [])
            if matches:
                return [images[position] for position in matches]
        return []

    @cached_property
    def _indices(self) -> "list[tuple[list[Path], _Positions]]":
        """Images of each folder, with their positions by id."""
        found = [(folder, images_below(folder)[0]) for folder in dict.fromkeys(self.folders)]
        return [(images, positions_by_key(table_name(image, folder) for image in images)) for folder, images in found]

    @cached_property
    def _similar(self) -> "list[tuple[list[Path], _Positions, _Positions]]":
        """Images of each folder, with their positions by number and by id in lower case."""
        indices: list[tuple[list[Path], _Positions, _Positions]] = []
        for images, positions in self._indices:
            numbers, names = defaultdict[str, list[int]](list), defaultdict[str, list[int]](list)
            for position, image in enumerate(images):
                if (number := _NUMBER.fullmatch(image.stem)) and not number[2]:
                    numbers[number[1]].append(position)
            for key, found in positions.items():
                names[key.casefold()] += found
            indices.append((images, numbers, names))
        return indices


def find_images(ids: Sequence[str], path: Path, search: ImageSearch) -> list[str]:
    """Return the names in the samples table of the images that ids refer to, in the order of the ids.

    Ids without a match also match without leading zeros, which spreadsheets remove, without `.0`, in another case, and
    with another file extension.

    Args:
        ids: paths or file names, with or without file extension.
        path: the table with the ids, for messages.
        search: the images.

    Raises:
        DataError: an image is missing, an id matches several images, or two ids match the same image.
    """
    found: list[Path | None] = []
    similar: list[tuple[str, Path]] = []
    for row, name in enumerate(ids, start=2):
        matches = search.find(name)
        if not matches and len(alike := search.find_similar(name)) == 1:
            matches = alike
            similar.append((name, alike[0]))
        check_one_match([str(match) for match in matches], name, row, path)
        found.append(matches[0] if matches else None)
    missing = [(name, row) for row, (name, image) in enumerate(zip(ids, found, strict=True), 2) if not image]
    if missing:
        shown = format_list([f"{name} (row {row})" for name, row in missing])
        raise DataError(
            f"{path}: {len(missing)} images are missing: {shown}",
            expected=f"files below {' or '.join(map(str, search.folders))}, "
            "by path or name, with or without file extension",
            next_step=_hint(missing[0][0], search) or "add the files or remove the rows",
        )
    names = [table_name(image, search.root) for image in found if image is not None]
    if similar:
        name, image = similar[0]
        text = f"{len(similar):,} ids are matched but for leading zeros, decimals, case or file endings"
        add_note("read as", f"{path}: {text}: {name!r} is {table_name(image, search.root)}")
    if rows := repeated_rows(names):
        raise DataError(
            f"{path}, rows {rows[0]} and {rows[1]}: the same image twice",
            expected="each image once",
            found=f"{ids[rows[0] - 2]!r} and {ids[rows[1] - 2]!r} are both {names[rows[0] - 2]}",
            next_step="remove one of the rows",
        )
    return names


def _hint(name: str, search: ImageSearch) -> str:
    """Return the next step for an id that matches no image, if a part of it matches."""
    parts = canonical_id(name).split("/")
    for start in range(1, len(parts)):
        if matches := search.find("/".join(parts[start:])):
            lost = "/".join(parts[:start])
            return f"if {name} is {matches[0]}, remove {lost}/ from the ids, or set --data-location to the folder above"
    if matches := search.find_similar(name):
        return (
            f"{name} may be any of {format_list([str(match) for match in matches], 3)}: write the paths into the table"
        )
    return ""


def check_one_match(matches: list[str], name: str, row: int, path: Path) -> None:
    """Check that the id `name` in a row of a table matches one image.

    Raises:
        DataError: it matches several.
    """
    if len(matches) > 1:
        raise DataError(
            f"{path}, row {row}: {name!r} matches {len(matches)} images",
            expected="an id that matches one image",
            found=format_list(matches),
            next_step="write the path from the data location into the table",
        )


def repeated_rows(values: Iterable[object]) -> tuple[int, int] | None:
    """Return the numbers of the first two rows with the same value, the header being row 1; None if there are none."""
    rows: dict[object, int] = {}
    for row, value in enumerate(values, start=2):
        if rows.setdefault(value, row) != row:
            return rows[value], row
    return None
