"""The layout `csv`: labels in a table, images found by name below the data location.

Reading of columns, ids and image names is shared with the layouts `metadata` and those with a schema."""

from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from soups.core.errors import DataError
from soups.data.layouts.folders import check_known_classes
from soups.data.layouts.image_files import existing_folder, format_list, images_below, positions_by_key, table_name
from soups.data.settings import DataSettings
from soups.files.tables import read_table

if TYPE_CHECKING:
    import pandas as pd

DEFAULT_LABELS = ("train.csv", "labels.csv")

_SPLIT_WORDS = {"training": "train", "valid": "val", "validation": "val"}


def csv_samples(settings: DataSettings) -> "pd.DataFrame":
    """Read a data set whose labels are in a CSV; every cell is text (`007` and `NA` do not change).

    Raises:
        DataError: the CSV or a column is missing, an id or label is empty, an id is repeated, or an image is missing.
    """
    expected = "the folder of the images in the labels CSV"
    root = existing_folder(settings.data_location, "--data-location", expected)
    path = _find_labels_file(settings, root)
    table = read_table(path)
    splits = [""] * len(table)
    if settings.split_column is not None:
        splits = canonical_splits(table_column(table, settings.split_column, path, "--split-column"))
    samples = listed_samples(table, path, settings, settings.image_column, splits, [root])
    if settings.test_location is not None:
        samples = samples[samples["split"] != "test"]
    return samples.sort_values("image", ignore_index=True)


def csv_test_samples(path: Path, settings: DataSettings, classes: set[str]) -> "pd.DataFrame":
    """Read the test images that another CSV lists, with labels if it has the label column.

    Images are searched beside the CSV, then in the data location.

    Args:
        path: the CSV.
        settings: data settings with the columns and the data location.
        classes: classes of the training images.

    Raises:
        DataError: as `csv_samples`, or a class has no training images.
    """
    table, folders = read_table(path), [path.parent, settings.root]
    samples = listed_samples(table, path, settings, settings.image_column, ["test"] * len(table), folders)
    check_known_classes(set(samples["label"]) - {""}, classes, path)
    return samples.sort_values("image", ignore_index=True)


def listed_samples(
    table: "pd.DataFrame",
    path: Path,
    settings: DataSettings,
    image_column: str,
    splits: list[str],
    folders: list[Path],
) -> "pd.DataFrame":
    """Return the samples table of a table that lists images, in the order of its rows.

    Args:
        table: text columns.
        path: the table's file, for messages.
        settings: data settings with the columns of label and group, and the data location. A table with test images
            only may lack both columns; a test image may have no label and no group.
        image_column: column with paths or file names.
        splits: the split of each row.
        folders: folders to search for the images.

    Raises:
        DataError: a column or image is missing, a cell is empty, or an image is listed twice.
    """
    import pandas as pd

    ids = table_column(table, image_column, path, "--image-column")
    check_unique_ids(ids, path)
    is_test = [split == "test" for split in splits]
    labels = groups = [""] * len(ids)
    if settings.label_column in table or not all(is_test):
        labels = table_column(table, settings.label_column, path, "--label-column")
        cells = [label or test for label, test in zip(labels, is_test, strict=True)]
        check_filled(cells, path, "the label", "a class name")
    # If --groups is set, the column of groups belongs to that CSV.
    group_column = settings.group_column if not settings.groups else None
    if group_column and (group_column in table or not all(is_test)):
        groups = table_column(table, group_column, path, "--group-column")
        cells = [group or test for group, test in zip(groups, is_test, strict=True)]
        check_filled(cells, path, f"column {group_column!r}", "the name of the group")
    images = find_images(ids, path, folders, settings.root)
    return pd.DataFrame({"image": images, "label": labels, "group": groups, "split": splits}, dtype=str)


def read_test_ids(path: Path, settings: DataSettings) -> tuple[list[str], list[str]]:
    """Return the ids in a CSV of test images and the images' names in the samples table, in the CSV's order.

    Raises:
        DataError: the column or an image is missing, an id matches several images, or an image is listed twice.
    """
    ids = table_column(read_table(path), settings.image_column, path, "--image-column")
    check_unique_ids(ids, path)
    return ids, find_images(ids, path, [path.parent, settings.root], settings.root)


def locate_table(name: str, root: Path) -> Path:
    """Return the path of a flag's file: relative to the data location if it exists there, else `name` itself."""
    inside = root / name
    return inside if inside.exists() else Path(name)


def table_column(table: "pd.DataFrame", name: str, path: Path, source: str, keep: Collection[str] = ()) -> list[str]:
    """Return a column's cells without surrounding spaces.

    Args:
        table: text columns.
        name: the column.
        path: the table's file, for messages.
        source: the flag or layout that requires the column, for messages.
        keep: names whose surrounding spaces belong to them, such as classes after folders.

    Raises:
        DataError: the column does not exist; lists the existing columns.
    """
    if name not in table:
        raise DataError(
            f"{path}: no column {name!r}",
            expected=f"the column that {source} requires",
            found=f"columns {', '.join(map(str, table.columns))}",
            next_step=f"rename a column, or change {source}",
        )
    return [text if text in keep else text.strip() for text in map(str, table[name])]


def check_filled(cells: Iterable[object], path: Path, what: str, expected: str) -> None:
    """Check that no cell of a column is empty; messages count the header as row 1, like a spreadsheet.

    Args:
        cells: the column.
        path: the table's file, for messages.
        what: the column, for messages.
        expected: what a cell should contain, for messages.

    Raises:
        DataError: a cell is empty.
    """
    for row, cell in enumerate(cells, start=2):
        if not cell:
            raise DataError(f"{path}, row {row}: {what} is empty", expected=expected)


def check_unique_ids(ids: Sequence[str], path: Path) -> None:
    """Check that no id is empty or repeated.

    Raises:
        DataError: an id is empty or repeated.
    """
    check_filled(ids, path, "the image's id", "an id in every row")
    if rows := repeated_rows(ids):
        raise DataError(
            f"{path}, rows {rows[0]} and {rows[1]}: the same image twice",
            expected="each image once",
            found=repr(ids[rows[0] - 2]),
            next_step="remove one of the rows",
        )


def repeated_rows(values: Iterable[object]) -> tuple[int, int] | None:
    """Return the numbers of the first two rows with the same value, the header being row 1; None if there are none."""
    rows: dict[object, int] = {}
    for row, value in enumerate(values, start=2):
        if rows.setdefault(value, row) != row:
            return rows[value], row
    return None


def _find_labels_file(settings: DataSettings, root: Path) -> Path:
    if settings.labels is not None:
        return locate_table(settings.labels, root)
    found = [root / name for name in DEFAULT_LABELS if (root / name).is_file()]
    if len(found) != 1:
        raise DataError(
            f"{root}: {'two possible tables of labels' if found else 'no table of labels'}",
            expected=f"--labels FILE.csv, or one of {' and '.join(DEFAULT_LABELS)} in it",
            found=", ".join(path.name for path in found),
            next_step="set --labels FILE.csv",
        )
    return found[0]


def canonical_splits(words: Iterable[str]) -> list[str]:
    """Return split names of the samples table for words such as `validation`.

    If no word means "val", "train" becomes "", so that `split_samples` takes a validation set from it.
    """
    splits = [_SPLIT_WORDS.get(word.lower(), word) for word in words]
    undecided = "train" if "val" in splits else ""
    return [undecided if split in {"", "train"} else split for split in splits]


def find_images(ids: list[str], path: Path, folders: list[Path], root: Path) -> list[str]:
    """Return the names in the samples table of the images that ids refer to, in the order of the ids.

    Args:
        ids: paths or file names, with or without file extension.
        path: the table with the ids, for messages.
        folders: folders to search; the first with a match is used.
        root: the data location, which names in the samples table are relative to.

    Raises:
        DataError: an image is missing, an id matches several images, or two ids match the same image.
    """
    found = [next((folder / name for folder in folders if (folder / name).is_file()), None) for name in ids]
    if None in found:
        _search_by_name(ids, found, path, folders)
    missing = [f"{name} (row {row})" for row, (name, image) in enumerate(zip(ids, found, strict=True), 2) if not image]
    if missing:
        raise DataError(
            f"{path}: {len(missing)} images are missing: {format_list(missing)}",
            expected=f"files below {' or '.join(map(str, folders))}, by path or name, with or without file extension",
            next_step="add the files or remove the rows",
        )
    names = [table_name(image, root) for image in found if image is not None]
    if rows := repeated_rows(names):
        raise DataError(
            f"{path}, rows {rows[0]} and {rows[1]}: the same image twice",
            expected="each image once",
            found=f"{ids[rows[0] - 2]!r} and {ids[rows[1] - 2]!r} are both {names[rows[0] - 2]}",
            next_step="remove one of the rows",
        )
    return names


def _search_by_name(ids: list[str], found: list[Path | None], path: Path, folders: list[Path]) -> None:
    """Replace each None in `found` by the image below the folders that matches the id, if there is one."""
    for folder in folders:
        images = images_below(folder)[0]
        positions = positions_by_key(image.relative_to(folder).as_posix() for image in images)
        for index, name in enumerate(ids):
            if found[index] is None and (matches := positions.get(name.removeprefix("./"))):
                check_one_match([str(images[position]) for position in matches], name, index + 2, path)
                found[index] = images[matches[0]]


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
