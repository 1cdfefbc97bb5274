"""The layout `csv`: labels in a table, images found by name below the data location.

Reading of columns, ids and image names is shared with the layouts `metadata` and those with a schema."""

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from soups.core.errors import DataError
from soups.data.layouts.image_files import existing_folder, format_list, images_below, lookup_keys, table_name
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
    import pandas as pd

    expected = "the folder of the images in the labels CSV"
    root = existing_folder(settings.data_location, "--data-location", expected)
    path = _find_labels_file(settings, root)
    table = read_table(path)
    ids = table_column(table, settings.image_column, path, "--image-column")
    labels = table_column(table, settings.label_column, path, "--label-column")
    splits = _read_splits(table, settings, path)
    check_unique_ids(ids, path)
    check_labels_present(labels, splits, path)
    groups = read_groups(table, settings, path)
    samples = pd.DataFrame(
        {"image": find_images(ids, path, [root], root), "label": labels, "group": groups, "split": splits}, dtype=str
    )
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
    import pandas as pd

    table = read_table(path)
    _, images = read_test_ids(path, settings)
    labels = list(table[settings.label_column]) if settings.label_column in table else [""] * len(images)
    if foreign := sorted(set(labels) - classes - {""}):
        raise DataError(
            f"{path}: classes without training images: {format_list(foreign)}",
            expected=f"some of {format_list(sorted(classes), 20)}",
        )
    groups = list(table[settings.group_column]) if settings.group_column in table else [""] * len(images)
    samples = pd.DataFrame({"image": images, "label": labels, "group": groups, "split": "test"}, dtype=str)
    return samples.sort_values("image", ignore_index=True)


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


def table_column(table: "pd.DataFrame", name: str, path: Path, source: str) -> list[str]:
    """Return a column's cells without surrounding spaces.

    Args:
        table: text columns.
        name: the column.
        path: the table's file, for messages.
        source: the flag or layout that requires the column, for messages.

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
    return [str(value).strip() for value in table[name]]


def check_unique_ids(ids: Iterable[str], path: Path) -> None:
    """Check that no id is empty or repeated; messages count the header as row 1, like a spreadsheet.

    Raises:
        DataError: an id is empty or repeated.
    """
    rows: dict[str, int] = {}
    for row, name in enumerate(ids, start=2):
        if not name:
            raise DataError(f"{path}, row {row}: the image's id is empty", expected="an id in every row")
        if name in rows:
            raise DataError(
                f"{path}, rows {rows[name]} and {row}: the same image twice",
                expected="each image once",
                found=repr(name),
                next_step="remove one of the rows",
            )
        rows[name] = row


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


def _read_splits(table: "pd.DataFrame", settings: DataSettings, path: Path) -> list[str]:
    if settings.split_column is None:
        return [""] * len(table)
    return canonical_splits(table_column(table, settings.split_column, path, "--split-column"))


def canonical_splits(words: Iterable[str]) -> list[str]:
    """Return split names of the samples table for words such as `validation`.

    If no word means "val", "train" becomes "", so that `split_samples` takes a validation set from it.
    """
    splits = [_SPLIT_WORDS.get(word.lower(), word) for word in words]
    undecided = "train" if "val" in splits else ""
    return [undecided if split in {"", "train"} else split for split in splits]


def check_labels_present(labels: list[str], splits: list[str], path: Path) -> None:
    """Check that every image outside the test set has a label.

    Raises:
        DataError: a label is empty.
    """
    for row, (label, split) in enumerate(zip(labels, splits, strict=True), start=2):
        if not label and split != "test":
            raise DataError(f"{path}, row {row}: the label is empty", expected="a class name")


def read_groups(table: "pd.DataFrame", settings: DataSettings, path: Path) -> list[str]:
    """Return the column `--group-column` of a table of labels; "" for every row if the flag is not set.

    Raises:
        DataError: the column is missing or has an empty cell.
    """
    if not settings.group_column or settings.groups:  # If --groups is set, the column belongs to that CSV.
        return [""] * len(table)
    groups = table_column(table, settings.group_column, path, "--group-column")
    check_groups_present(groups, settings.group_column, path)
    return groups


def check_groups_present(cells: list[str], name: str, path: Path) -> None:
    """Check that no cell of a column of groups is empty.

    Raises:
        DataError: a cell is empty.
    """
    for row, cell in enumerate(cells, start=2):
        if not cell:
            raise DataError(f"{path}, row {row}: column {name!r} is empty", expected="the name of the group")


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
    found: list[Path | None] = [_existing_path(name, folders) for name in ids]
    if None in found:
        found = _search_by_name(ids, found, path, folders)
    missing = [f"{name} (row {row})" for row, (name, image) in enumerate(zip(ids, found, strict=True), 2) if not image]
    if missing:
        raise DataError(
            f"{path}: {len(missing)} images are missing: {format_list(missing)}",
            expected=f"files below {' or '.join(map(str, folders))}, by path or name, with or without file extension",
            next_step="add the files or remove the rows",
        )
    names = [table_name(image, root) for image in found if image is not None]
    rows: dict[str, int] = {}
    for row, name in enumerate(names, start=2):
        if name in rows:
            raise DataError(
                f"{path}, rows {rows[name]} and {row}: the same image twice",
                expected="each image once",
                found=f"{ids[rows[name] - 2]!r} and {ids[row - 2]!r} are both {name}",
                next_step="remove one of the rows",
            )
        rows[name] = row
    return names


def _existing_path(name: str, folders: list[Path]) -> Path | None:
    return next((folder / name for folder in folders if (folder / name).is_file()), None)


def _search_by_name(ids: list[str], found: list[Path | None], path: Path, folders: list[Path]) -> list[Path | None]:
    """Return `found` with each None replaced by the image below the folders that matches the id, if there is one."""
    for folder in folders:
        known: defaultdict[str, list[Path]] = defaultdict(list)
        for image in images_below(folder)[0]:
            for key in lookup_keys(image.relative_to(folder).as_posix()):
                known[key].append(image)
        for row, name in enumerate(ids, start=2):
            matches = known.get(name.removeprefix("./"), []) if found[row - 2] is None else []
            if len(matches) > 1:
                raise DataError(
                    f"{path}, row {row}: {name!r} matches {len(matches)} images",
                    expected="an id that matches one image",
                    found=format_list([str(match) for match in matches]),
                    next_step="write the path from the data location into the table",
                )
            if matches:
                found[row - 2] = matches[0]
    return found
