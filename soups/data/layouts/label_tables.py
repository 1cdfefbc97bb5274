"""Search for a table of labels beside the images, if no layout is set, and for the test images beside it."""

import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from soups.core.errors import DataError, UserError
from soups.core.notes import add_note, mute_notes
from soups.data.layouts.folders import folder_samples, read_test_folder
from soups.data.layouts.image_files import FolderListing, format_list, images_below, table_name
from soups.data.layouts.set_folders import class_folders, set_of
from soups.data.layouts.tables import csv_samples, read_test_ids
from soups.data.settings import DataSettings

if TYPE_CHECKING:
    import pandas as pd

_LABELS = {"train", "training", "labels", "label", "trainlabels", "traininglabels", "annotations", "groundtruth"}
"""Names of tables of labels, in lower case and without separators."""
_VALIDATION, _TEST = {"val", "valid", "validation", "dev"}, {"test", "testing"}
_JOIN = (
    'import pandas as p; p.concat([p.read_csv("{}", dtype=str).assign(split="train"), '
    'p.read_csv("{}", dtype=str).assign(split="val")]).to_csv("all.csv", index=False)'
)


def find_label_table(settings: DataSettings) -> dict[str, object]:
    """Return the settings of a data set whose labels are in a table beside its images; empty if there is none.

    The folders are read if they hold the same classes, or if the table is none of labels.

    Raises:
        DataError: several tables fit, or a table and the folders name different classes.
    """
    folder = _folder_with_tables(settings.root)
    files = {path.relative_to(settings.root).as_posix(): path for path in _tables(folder, _LABELS)}
    if not files:
        return {}
    by_name = {name: settings.model_copy(update={"layout": "csv", "labels": name}) for name in files}
    read = {name: _try(csv_samples, each) for name, each in by_name.items()}
    tables = {name: table for name, (table, _) in read.items() if table is not None}
    folders = _try(folder_samples, settings)[0]
    classes = dict(zip(folders["image"], folders["label"], strict=True)) if folders is not None else {}
    are_classes = len(set(classes.values()) - {""}) > 1
    if are_classes and not tables:
        for name, (_, reason) in read.items():
            add_note("left out", f"{files[name]}: not read as a table of labels, because the folders are: {reason}")
        return {}
    if len(tables) > 1:
        raise DataError(
            f"{folder}: several tables may hold the labels: {format_list(list(tables))}",
            expected="one",
            next_step="set " + ", or ".join(f"--labels {shlex.quote(name)}" for name in tables),
        )
    name = next(iter(tables or read))
    if are_classes and _is_same(tables[name], classes, name, settings.root):
        add_note("read as", f"{files[name]}: has the classes of the folders, which are read")
        return {}
    add_note("read as", f"layout csv: the classes are read from {files[name]}")
    found: dict[str, object] = {"layout": "csv", "labels": name}
    for path in _tables(folder, _VALIDATION):
        join = _JOIN.format(str(files[name]), str(path))
        text = f"{path}: is not read; to validate on it: python -c {shlex.quote(join)}, and --labels all.csv"
        add_note("left out", text, warning=True)
    if name in tables and settings.test_location is None and "test" not in set(tables[name]["split"]):
        found["test_location"] = _find_tests(folder, tables[name], by_name[name])
    return found


def _is_same(table: "pd.DataFrame", classes: dict[str, str], name: str, root: Path) -> bool:
    """Return True if the images of a table have the classes of their folders; `classes` are those by image.

    Raises:
        DataError: they differ.
    """
    for image, label in zip(table["image"], table["label"], strict=True):
        if classes.get(image) not in ("", label):
            raise DataError(
                f"{root}: the folders and {name} name different classes",
                expected="one of them",
                found=f"{image} is {classes.get(image, 'in no set')} by its folder, {label} in the table",
                next_step=f"set --labels {shlex.quote(name)}, or --layout folder",
            )
    return True


def _try(read: "Callable[..., Any]", *arguments: object) -> tuple[Any, str]:
    """Return what a reader returns without its notes; or None and why it failed."""
    try:
        with mute_notes():
            return read(*arguments), ""
    except UserError as error:
        return None, error.problem.rpartition(": ")[2]


def _folder_with_tables(root: Path) -> Path:
    """Return the folder that may hold tables: the data location, or the only folder in it that is no set."""
    listing = FolderListing(root)
    if len(listing.folders) == 1 and not listing.images and not _tables(root, _LABELS | _TEST):
        (only,) = listing.folders
        if set_of(only.name) is None:
            return _folder_with_tables(only)
    return root


def _tables(folder: Path, names: set[str]) -> list[Path]:
    files = [path for path in FolderListing(folder).others if path.suffix.lower() in (".csv", ".tsv")]
    return [path for path in files if re.sub(r"[\W_]", "", path.stem.lower()) in names]


def _find_tests(folder: Path, train: "pd.DataFrame", settings: DataSettings) -> str | None:
    """Return the test location beside a table of labels: a table of test images, or a folder that is not listed."""
    listed = set(train["image"])
    for path in _tables(folder, _TEST):
        found, reason = _try(read_test_ids, path, settings)
        if found is not None and listed.isdisjoint(found[1]):
            add_note("read as", f"{path}: lists the test images")
            return str(path)
        reason = reason or "it lists training images"
        add_note("left out", f"{path}: not read as a table of test images: {reason}", warning=True)
    for path in class_folders(folder):
        images = images_below(path)[0] if set_of(path.name) == "test" else []
        is_new = images and listed.isdisjoint(table_name(image, settings.root) for image in images)
        if is_new and _try(read_test_folder, path, settings.root, set(train["label"]))[0] is not None:
            add_note("read as", f"{path}: holds the test images")
            return str(path)
    return None
