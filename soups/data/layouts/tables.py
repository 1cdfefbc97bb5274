"""The layout `csv`: labels in a table, images found by name below the data location.

Reading of columns, ids and image names is shared with the layouts `metadata` and those with a schema."""

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from soups.core.errors import DataError
from soups.core.notes import add_note
from soups.data.layouts.columns import (
    clean_labels,
    find_id_column,
    find_labels,
    find_splits,
    note_unused_groups,
    table_column,
)
from soups.data.layouts.folders import check_known_classes
from soups.data.layouts.image_files import existing_folder, format_list, images_below, table_name
from soups.data.layouts.image_search import ImageSearch, find_images, repeated_rows
from soups.data.layouts.set_folders import set_of
from soups.data.settings import DataSettings
from soups.files.tables import read_table

if TYPE_CHECKING:
    import pandas as pd

DEFAULT_LABELS = ("train.csv", "labels.csv")


def csv_samples(settings: DataSettings) -> "pd.DataFrame":
    """Read a data set whose labels are in a CSV; every cell is text (`007` and `NA` do not change).

    Raises:
        DataError: the CSV or a column is missing, an id or label is empty, an id is repeated, or an image is missing.
    """
    expected = "the folder of the images in the labels CSV"
    root = existing_folder(settings.data_location, "--data-location", expected)
    path = _find_labels_file(settings, root)
    table = read_table(path)
    splits = find_splits(table, path, settings.split_column) or [""] * len(table)
    samples = listed_samples(table, path, settings, splits, ImageSearch([root], settings.root))
    _note_unlisted_images(root, path, set(samples["image"]), settings)
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
    table, search = read_table(path), ImageSearch([path.parent, settings.root], settings.root)
    samples = listed_samples(table, path, settings, ["test"] * len(table), search)
    check_known_classes(set(samples["label"]) - {""}, classes, path)
    return samples.sort_values("image", ignore_index=True)


def listed_samples(
    table: "pd.DataFrame",
    path: Path,
    settings: DataSettings,
    splits: list[str],
    search: ImageSearch,
    usual: str = "image",
) -> "pd.DataFrame":
    """Return the samples table of a table that lists images, in the order of its rows.

    Args:
        table: text columns.
        path: the table's file, for messages.
        settings: data settings with the columns of label and group, and the data location. A table with test images
            only may lack both columns; a test image may have no label and no group.
        splits: the split of each row.
        search: the images.
        usual: the usual column of paths or file names.

    Raises:
        DataError: a column or image is missing, a cell is empty, or an image is listed twice.
    """
    import pandas as pd

    id_column = find_id_column(table, path, settings.image_column, search.is_image, usual)
    ids = table_column(table, id_column, path, "--image-column")
    is_test = [split == "test" for split in splits]
    labels = groups = [""] * len(ids)
    # If --groups is set, the column of groups belongs to that CSV.
    group_column = settings.group_column if not settings.groups else None
    others = (id_column, group_column, settings.split_column)
    if (found := find_labels(table, path, settings.label_column, others, all(is_test))) is not None:
        cells = [label or test for label, test in zip(found, is_test, strict=True)]
        check_filled(cells, path, "the label", "a class name")
        labels = clean_labels(found, path, settings.class_order or ())
    check_unique_ids(ids, path, labels)
    if group_column and (group_column in table or not all(is_test)):
        groups = table_column(table, group_column, path, "--group-column")
        cells = [group or test for group, test in zip(groups, is_test, strict=True)]
        check_filled(cells, path, f"column {group_column!r}", "the name of the group")
    elif not (settings.groups or settings.group_pattern or all(is_test)):
        note_unused_groups(table, path, others)
    images = find_images(ids, path, search)
    return pd.DataFrame({"image": images, "label": labels, "group": groups, "split": splits}, dtype=str)


def read_test_ids(path: Path, settings: DataSettings) -> tuple[list[str], list[str]]:
    """Return the ids in a CSV of test images and the images' names in the samples table, in the CSV's order.

    Raises:
        DataError: the column or an image is missing, an id matches several images, or an image is listed twice.
    """
    table, search = read_table(path), ImageSearch([path.parent, settings.root], settings.root)
    id_column = find_id_column(table, path, settings.image_column, search.is_image)
    ids = table_column(table, id_column, path, "--image-column")
    check_unique_ids(ids, path)
    return ids, find_images(ids, path, search)


def locate_table(name: str, root: Path) -> Path:
    """Return the path of a flag's file: relative to the data location if it exists there, else `name` itself."""
    inside = root / name
    return inside if inside.exists() else Path(name)


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


def check_unique_ids(ids: Sequence[str], path: Path, labels: Sequence[str] | None = None) -> None:
    """Check that no id is empty or repeated; the message names the rows' labels if they differ.

    Raises:
        DataError: an id is empty or repeated.
    """
    check_filled(ids, path, "the image's id", "an id in every row")
    if rows := repeated_rows(ids):
        classes = {labels[row - 2] for row in rows} if labels is not None else set()
        raise DataError(
            f"{path}, rows {rows[0]} and {rows[1]}: the same image twice",
            expected="each image once, with one class" if len(classes) > 1 else "each image once",
            found=repr(ids[rows[0] - 2]) + (f" as {' and '.join(sorted(classes))}" if len(classes) > 1 else ""),
            next_step="remove one of the rows",
        )


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


def _note_unlisted_images(root: Path, path: Path, listed: set[str], settings: DataSettings) -> None:
    """Say how many images of which folders neither the table of labels nor the test location names."""
    images, test = images_below(root)[0], Path(settings.test_location) if settings.test_location else None
    if len(images) == len(listed):
        return
    counts: Counter[str] = Counter()
    for image in images:
        if table_name(image, settings.root) not in listed and not (test and image.is_relative_to(test)):
            counts[image.relative_to(root).parts[0] if image.parent != root else "."] += 1
    tests = [name for name in counts if set_of(name) == "test"]
    if test is not None and test.is_file():  # A table of test images, which are read with it.
        counts -= Counter({name: counts[name] for name in tests})
    if counts:
        where = format_list([f"{count:,} in {name}" for name, count in counts.items()], 5)
        step = f"; to predict them: --test-location {root / tests[0]}" if tests and test is None else ""
        text = f"{root}: left out {counts.total():,} images that {path.name} does not list: {where}{step}"
        add_note("left out", text, warning=any(map(set_of, counts)))
