"""The layout `folder`: the folder of an image is its class, in `train/`, `val/`, `test/` and `shifts/<name>/`."""

import logging
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from soups.core.errors import DataError
from soups.data.layouts.image_files import FolderListing, existing_folder, format_list, images_below, table_name
from soups.data.layouts.set_folders import class_folders, find_root, find_sets
from soups.data.settings import DataSettings

if TYPE_CHECKING:
    import pandas as pd

logger = logging.getLogger(__name__)

COLUMNS = ("image", "label", "group", "split")
EXPECTED_FOLDERS = (
    "a folder with train/<class>/… and optionally val/<class>/…, test/<class>/… (or test images directly in test/) "
    "and shifts/<name>/<class>/…; or with <class>/… alone"
)
_RESERVED = ("train", "val", "test", "shifts")

Row = tuple[str, str, str, str]


def folder_samples(settings: DataSettings, extra_classes: Collection[str] = ()) -> "pd.DataFrame":
    """Read a data set in which the name of an image's folder is its class.

    Args:
        settings: settings with one data location.
        extra_classes: classes with training images in other data locations.

    Raises:
        DataError: the folder is missing or has another layout, a class folder has no images, or a set has a class
            without training images.
    """
    location = existing_folder(settings.data_location, "--data-location", EXPECTED_FOLDERS)
    root = find_root(location)
    folders = class_folders(FolderListing(root))
    sets = find_sets(root, folders)
    if not sets:
        return as_table(_class_folder_rows(root, "", location, folders=folders))
    rows = _class_folder_rows(sets["train"], "train" if "val" in sets else "", location)
    classes = {label for _, label, _, _ in rows} | set(extra_classes)
    if "val" in sets:
        rows += _class_folder_rows(sets["val"], "val", location, classes)
    if "test" in sets and settings.test_location is None:
        rows += read_test_folder(sets["test"], location, classes)
    if "shifts" in sets:
        for shift in FolderListing(sets["shifts"]).folders:
            if shift.name in _RESERVED:
                raise DataError(f"{shift}: a shift set cannot be named {shift.name}", next_step="rename the folder")
            rows += _class_folder_rows(shift, shift.name, location, classes)
    return as_table(rows)


def folder_classes(location: str) -> set[str]:
    """Return the names of the class folders of training images."""
    if not Path(location).is_dir():
        return set()
    root = find_root(Path(location))
    folders = class_folders(FolderListing(root))
    sets = find_sets(root, folders)
    return {path.name for path in (FolderListing(sets["train"]).folders if sets else folders)}


def as_table(rows: list[Row]) -> "pd.DataFrame":
    """Return rows as a table of text, sorted by image as strings."""
    import pandas as pd

    return pd.DataFrame(sorted(rows), columns=list(COLUMNS), dtype=str)


def _class_folder_rows(
    folder: Path,
    split: str,
    root: Path,
    classes: set[str] | None = None,
    folders: Sequence[Path] | None = None,
) -> list[Row]:
    """Return the rows of `folder/<class>/…`.

    Args:
        folder: the set.
        split: its name in the samples table.
        root: the data location.
        classes: the training classes, if another set is read.
        folders: the class folders; by default all folders in `folder`.
    """
    content = FolderListing(folder)
    found = {path.name: images_below(path) for path in (content.folders if folders is None else folders)}
    if not found:
        outside = f"{len(content.images)} images outside class folders" if content.images else "no class folders"
        raise DataError(
            f"{folder}: no class folders in it",
            expected=EXPECTED_FOLDERS,
            found=outside,
            next_step="sort the images into one folder per class, or use --layout csv with --labels FILE.csv",
        )
    if empty := [name for name, (images, _) in found.items() if not images]:
        raise DataError(
            f"{folder}: class folders without images: {format_list(empty)}",
            expected="at least one image in each",
            next_step="add images or remove the folders",
        )
    if classes is not None:
        check_known_classes(found, classes, folder)
    _log_skipped(folder, len(content.images), sum(others for _, others in found.values()))
    return [(table_name(image, root), label, "", split) for label, (images, _) in found.items() for image in images]


def read_test_folder(folder: Path, root: Path, classes: set[str]) -> list[Row]:
    """Return the rows of a folder of test images: by class, flat, or flat in the sub-folder `images/`."""
    content = FolderListing(folder)
    names = [path.name for path in content.folders]
    if not content.images and names == ["images"] and "images" not in classes:
        return read_test_folder(folder / "images", root, classes)
    if content.images and names:
        raise DataError(
            f"{folder}: {len(content.images)} images beside folders ({format_list(names)})",
            expected="all images in class folders (labelled), or all directly in it (unlabelled)",
        )
    if names:
        return _class_folder_rows(folder, "test", root, classes)
    if not content.images:
        raise DataError(f"{folder}: no images in it", expected="images in class folders, or directly in it")
    _log_skipped(folder, 0, len(content.others))
    return [(table_name(image, root), "", "", "test") for image in content.images]


def check_known_classes(found: Collection[str], known: Collection[str], where: Path | str) -> None:
    """Check that all classes of a set are classes of the training images.

    Raises:
        DataError: some are not; names them and the set, `where`.
    """
    if foreign := sorted(set(found) - set(known)):
        raise DataError(
            f"{where}: classes without training images: {format_list(foreign)}",
            expected=f"some of {format_list(sorted(known), 20)}",
            next_step="add them to train, or remove them here",
        )


def _log_skipped(folder: Path, outside: int, others: int) -> None:
    if outside:
        logger.warning("%s: skipped %d images outside class folders", folder, outside)
    if others:
        logger.info("%s: skipped %d files without the extension of an image", folder, others)
