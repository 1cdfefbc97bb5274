"""The layout `csv`: labels in a table, images found by name below the data location."""

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from soups.core.errors import DataError
from soups.data.layouts.folders import existing_folder, format_list, images_below, lookup_keys, table_name
from soups.data.settings import DataSettings
from soups.files.atomic import read_table

if TYPE_CHECKING:
    import pandas as pd

DEFAULT_LABELS = ("train.csv", "labels.csv")

_SPLIT_WORDS = {"training": "train", "valid": "val", "validation": "val"}


def csv_samples(settings: DataSettings) -> "pd.DataFrame":
    """The table of a data set whose labels stand in a CSV; every cell is text (`007` and `NA` stay as they are).

    Raises:
        DataError: the CSV or a column is missing, an id or label is empty, an id is doubled, or an image is missing.
    """
    import pandas as pd

    expected = "the folder of the images that the labels CSV names"
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
    """The test images that a CSV elsewhere names, labelled where it has the label column.

    Images are looked for beside the CSV, then in the data location.

    Raises:
        DataError: as `csv_samples`, or a label that train lacks.
    """
    import pandas as pd

    table = read_table(path)
    _, images = read_test_ids(path, settings)
    labels = list(table[settings.label_column]) if settings.label_column in table else [""] * len(images)
    if foreign := sorted(set(labels) - classes - {""}):
        raise DataError(
            f"{path}: classes without training images: {format_list(foreign)}", expected=format_list(sorted(classes), 20)
        )
    groups = list(table[settings.group_column]) if settings.group_column in table else [""] * len(images)
    samples = pd.DataFrame({"image": images, "label": labels, "group": groups, "split": "test"}, dtype=str)
    return samples.sort_values("image", ignore_index=True)


def read_test_ids(path: Path, settings: DataSettings) -> tuple[list[str], list[str]]:
    """The ids in a CSV of test images, and the table names of the images that they stand for, in its order.

    Raises:
        DataError: the column is missing, or an image is missing, could be several or is named twice.
    """
    ids = table_column(read_table(path), settings.image_column, path, "--image-column")
    check_unique_ids(ids, path)
    return ids, find_images(ids, path, [path.parent, settings.root], settings.root)


def locate_table(name: str, root: Path) -> Path:
    """A file named by a flag: in the data location, else as the path stands."""
    inside = root / name
    return inside if inside.exists() else Path(name)


def table_column(table: "pd.DataFrame", name: str, path: Path, asked_by: str) -> list[str]:
    """A column's cells, without spaces around them.

    Raises:
        DataError: there is no such column; names those that there are.
    """
    if name not in table:
        raise DataError(
            f"{path}: no column {name!r}",
            expected=f"the column named by {asked_by}",
            found=f"columns {', '.join(map(str, table.columns))}",
            next_step=f"let {asked_by} name one of these",
        )
    return [str(value).strip() for value in table[name]]


def check_unique_ids(ids: Iterable[str], path: Path) -> None:
    """Refuse an empty or doubled id; rows count as a spreadsheet shows them, the header being row 1."""
    seen: dict[str, int] = {}
    for row, name in enumerate(ids, start=2):
        if not name:
            raise DataError(f"{path}, row {row}: the image's id is empty")
        if name in seen:
            raise DataError(
                f"{path}, rows {seen[name]} and {row}: the same image twice",
                expected="each image once",
                found=repr(name),
                next_step="remove one of the rows",
            )
        seen[name] = row


def _find_labels_file(settings: DataSettings, root: Path) -> Path:
    if settings.labels is not None:
        return locate_table(settings.labels, root)
    found = [root / name for name in DEFAULT_LABELS if (root / name).is_file()]
    if len(found) != 1:
        raise DataError(
            f"{root}: {'two tables that could hold the labels' if found else 'no table of labels'}",
            expected=f"--labels FILE.csv, or one of {' and '.join(DEFAULT_LABELS)} in it",
            found=", ".join(path.name for path in found),
            next_step="name it with --labels",
        )
    return found[0]


def _read_splits(table: "pd.DataFrame", settings: DataSettings, path: Path) -> list[str]:
    if settings.split_column is None:
        return [""] * len(table)
    return canonical_splits(table_column(table, settings.split_column, path, "--split-column"))


def canonical_splits(words: Iterable[str]) -> list[str]:
    """What words such as `validation` mean in the samples table.

    "train" without any "val" means that the validation set is still to be taken from it: "".
    """
    splits = [_SPLIT_WORDS.get(word.lower(), word) for word in words]
    undecided = "train" if "val" in splits else ""
    return [undecided if split in {"", "train"} else split for split in splits]


def check_labels_present(labels: list[str], splits: list[str], path: Path) -> None:
    """Refuse an image without a label that is no test image."""
    for row, (label, split) in enumerate(zip(labels, splits, strict=True), start=2):
        if not label and split != "test":
            raise DataError(f"{path}, row {row}: the label is empty", expected="a class name")


def read_groups(table: "pd.DataFrame", settings: DataSettings, path: Path) -> list[str]:
    """The groups that a table of labels names; "" where none are asked for.

    Raises:
        DataError: the column is missing, or a cell of it is empty.
    """
    if not settings.group_column or settings.groups:  # With --groups it names a column of that CSV.
        return [""] * len(table)
    groups = table_column(table, settings.group_column, path, "--group-column")
    check_groups_present(groups, settings.group_column, path)
    return groups


def check_groups_present(cells: list[str], name: str, path: Path) -> None:
    for row, cell in enumerate(cells, start=2):
        if not cell:
            raise DataError(f"{path}, row {row}: column {name!r} is empty", expected="the name of the group")


def find_images(ids: list[str], path: Path, folders: list[Path], root: Path) -> list[str]:
    """The table names of the images that the ids stand for, in the order of the ids.

    Args:
        ids: paths or file names, with or without ending.
        path: the table that they stand in, for messages.
        folders: where images are looked for, the first that has one winning.
        root: the data location, which table names begin at.

    Raises:
        DataError: an image is missing, could be several, or is named twice; names the row.
    """
    found: list[Path | None] = [_existing_path(name, folders) for name in ids]
    if None in found:
        found = _search_by_name(ids, found, path, folders)
    missing = [f"{name} (row {row})" for row, (name, hit) in enumerate(zip(ids, found, strict=True), 2) if hit is None]
    if missing:
        raise DataError(
            f"{path}: {len(missing)} images are missing: {format_list(missing)}",
            expected=f"files below {' or '.join(map(str, folders))}, named by path or name, with or without ending",
            next_step="add the files or remove the rows",
        )
    names = [table_name(hit, root) for hit in found if hit is not None]
    rows: dict[str, int] = {}
    for row, name in enumerate(names, start=2):
        if name in rows:
            raise DataError(
                f"{path}, rows {rows[name]} and {row}: the same image twice",
                found=f"{ids[rows[name] - 2]!r} and {ids[row - 2]!r} are both {name}",
                next_step="remove one of the rows",
            )
        rows[name] = row
    return names


def _existing_path(name: str, folders: list[Path]) -> Path | None:
    return next((folder / name for folder in folders if (folder / name).is_file()), None)


def _search_by_name(ids: list[str], found: list[Path | None], path: Path, folders: list[Path]) -> list[Path | None]:
    """Complete `found` by the names of all images below the folders, the first folder that has one winning."""
    for folder in folders:
        known: defaultdict[str, list[Path]] = defaultdict(list)
        for image in images_below(folder)[0]:
            for key in lookup_keys(image.relative_to(folder).as_posix()):
                known[key].append(image)
        for row, name in enumerate(ids, start=2):
            hits = known.get(name.removeprefix("./"), []) if found[row - 2] is None else []
            if len(hits) > 1:
                raise DataError(
                    f"{path}, row {row}: {name!r} could be {len(hits)} images",
                    expected="an id that fits one file",
                    found=format_list([str(hit) for hit in hits]),
                    next_step="write the path from the data location into the table",
                )
            if hits:
                found[row - 2] = hits[0]
    return found
