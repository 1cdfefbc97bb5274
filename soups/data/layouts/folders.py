"""The layout `folder`: the folder of an image is its class, in `train/`, `val/`, `test/` and `shifts/<name>/`."""

import re
import shlex
import unicodedata
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

from soups.core.errors import DataError
from soups.core.notes import add_note
from soups.data.layouts.image_files import (
    FolderListing,
    count_endings,
    existing_folder,
    folder_names,
    format_list,
    how_to_read,
    images_below,
    note_left_out,
    table_name,
    unpack_command,
)
from soups.data.layouts.set_folders import (
    ClassFolders,
    as_classes,
    class_folders,
    is_unlabelled_folder,
    read_tree,
    set_of,
)
from soups.data.settings import DataSettings

if TYPE_CHECKING:
    import pandas as pd

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
    tree = read_tree(location, settings.class_order or ())
    first = "train" if "train" in tree.classes else ""
    rows = _class_rows(tree.folders[first], tree.classes[first], "train" if "val" in tree.folders else "", location)
    classes = {label for _, label, _, _ in rows} | set(extra_classes)
    if len(classes) == 1:
        _check_not_wrapped(tree.folders[first], next(iter(classes)), has_sets=first != "")
    if "val" in tree.folders:
        rows += _class_rows(tree.folders["val"], tree.classes["val"], "val", location, classes)
    if "test" in tree.folders and settings.test_location is None:
        if "test" in tree.classes:
            rows += _class_rows(tree.folders["test"], tree.classes["test"], "test", location, classes)
        else:
            rows += read_test_folder(tree.folders["test"], location, classes)
    for shift in class_folders(tree.folders["shifts"]) if "shifts" in tree.folders else ():
        if shift.name in _RESERVED:
            raise DataError(f"{shift}: a shift set cannot be named {shift.name}", next_step="rename the folder")
        rows += _class_rows(shift, as_classes(class_folders(shift)), shift.name, location, classes)
    return as_table(rows)


def folder_classes(location: str, known: Collection[str] = ()) -> set[str]:
    """Return the names of the class folders of training images."""
    if not Path(location).is_dir():
        return set()
    classes = read_tree(Path(location), known).classes
    return {label for label, _ in classes.get("train", classes.get("", ()))}


def as_table(rows: list[Row]) -> "pd.DataFrame":
    """Return rows as a table of text, sorted by image as strings."""
    import pandas as pd

    return pd.DataFrame(sorted(rows), columns=list(COLUMNS), dtype=str)


def _class_rows(
    folder: Path, folders: ClassFolders, split: str, root: Path, classes: set[str] | None = None
) -> list[Row]:
    """Return the rows of one set.

    Args:
        folder: the set's folder, for messages.
        folders: the folders of its classes.
        split: its name in the samples table.
        root: the data location.
        classes: the training classes, if another set is read.
    """
    listing = FolderListing(folder)
    found = [(label, path, *images_below(path)) for label, path in folders]
    if not found:
        raise _no_classes(listing)
    filled = {label for label, _, images, _ in found if images}
    empty = [(label, others) for label, _, images, others in found if not images and label not in filled]
    if classes is None and filled and not set_of(folder.name):
        # Beside classes, a folder without images that holds other files is no class: `src`, `notebooks`.
        if unused := [label for label, others in empty if others and not how_to_read(others)]:
            add_note("left out", f"{folder}: folders without images are not used: {format_list(unused)}", warning=True)
        empty = [(label, others) for label, others in empty if label not in unused]
    if empty:
        raise DataError(
            f"{folder}: class folders without images: {format_list([label for label, _ in empty])}",
            expected="at least one image in each",
            found=format_list([f"{label}: {count_endings(others)}" for label, others in empty if others], 3),
            next_step=how_to_read(file for _, others in empty for file in others) or "add images or remove the folders",
        )
    if classes is not None:
        check_known_classes(filled, classes, folder)
    if listing.images:
        text = f"{folder}: left out {len(listing.images):,} images outside class folders"
        add_note("left out", f"{text}, such as {listing.images[0].name}", warning=True)
    note_left_out(folder, [other for _, _, _, others in found for other in others])
    deeper = [path for _, path, images, _ in found if any(image.parent != path for image in images)]
    if deeper:
        names = format_list([f"{path.name}/{name}" for path in deeper for name in folder_names(path)], 3)
        add_note("read as", f"{folder}: images in folders within a class belong to that class: {names}")
    return [(table_name(image, root), label, "", split) for label, _, images, _ in found for image in images]


def _no_classes(listing: FolderListing) -> DataError:
    found = f"{len(listing.images)} images outside class folders" if listing.images else "no class folders"
    step = "sort the images into one folder per class, or use --layout csv with --labels FILE.csv"
    near = [*listing.others, *(FolderListing(listing.path.parent).others if set_of(listing.path.name) else ())]
    if tables := [path for path in near if path.suffix.lower() in (".csv", ".tsv")]:
        found = f"{found}; tables: {format_list([path.name for path in tables], 5)}"
        step = f"--labels {shlex.quote(str(tables[0]))}"
    if archives := [command for path in listing.others if (command := unpack_command(path))]:
        found, step = f"{found}; archives that are not unpacked", f"unpack them: {' && '.join(archives[:3])}"
    elif not (listing.images or listing.folders or listing.others):
        step = f"add images, or remove the folder: rmdir {shlex.quote(str(listing.path))}"
    elif others := how_to_read(listing.others):
        found, step = f"{found}; {count_endings(listing.others)}", others
    return DataError(f"{listing.path}: no class folders in it", expected=EXPECTED_FOLDERS, found=found, next_step=step)


def _check_not_wrapped(folder: Path, label: str, has_sets: bool) -> None:
    """Raise if the only class folder holds folders, which may be the classes, or is the only folder at all."""
    inner = folder_names(folder / label)
    if inner or not has_sets:
        raise DataError(
            f"{folder}: training images: only the class {label}",
            expected="at least two classes, each a folder",
            found=f"folders in {label}: {format_list(inner, 5)}" if inner else f"images only in {label}",
            next_step=f"if these are the sets or classes, pass {shlex.quote(str(folder / label))}"
            if inner
            else "add images of another class, or use --layout csv with --labels FILE.csv",
        )


def read_test_folder(folder: Path, root: Path, classes: set[str], by_class: bool = True) -> list[Row]:
    """Return the rows of a folder of test images: by class, flat, or flat in the sub-folder `images/`.

    Args:
        folder: the folder.
        root: the data location.
        classes: the training classes.
        by_class: whether folders that are no classes are an error; else their images have no labels, unless one of the
            folders is a class.

    Raises:
        DataError: there are no images, a folder is no class, or images lie beside folders.
    """
    folders = class_folders(folder)
    content, names = FolderListing(folder), [label for label, _ in as_classes(folders)]
    if not content.images and len(names) == 1 and names[0] not in classes and is_unlabelled_folder(names[0]):
        return read_test_folder(folders[0], root, classes)
    if names and not by_class and {class_key(name) for name in names}.isdisjoint(map(class_key, classes)):
        images, others = images_below(folder)
        if images:
            text = f"no folder in it is a class, so its {len(images):,} images have no labels"
            add_note("read as", f"{folder}: {text}: {format_list(names, 5)}", warning=True)
            note_left_out(folder, others)
            return [(table_name(image, root), "", "", "test") for image in images]
    if content.images and names:
        raise DataError(
            f"{folder}: {len(content.images)} images beside folders ({format_list(names)})",
            expected="all images in class folders (labelled), or all directly in it (unlabelled)",
            next_step=f"move either, or pass one of the folders: --test-location {shlex.quote(str(folders[0]))}",
        )
    if names:
        return _class_rows(folder, as_classes(folders), "test", root, classes)
    if not content.images:
        step = how_to_read(content.others)
        found = count_endings(content.others)
        expected = "images in class folders, or directly in it"
        raise DataError(f"{folder}: no images in it", expected=expected, found=found, next_step=step)
    note_left_out(folder, content.others)
    return [(table_name(image, root), "", "", "test") for image in content.images]


def check_known_classes(found: Collection[str], known: Collection[str], where: Path | str) -> None:
    """Check that all classes of a set are classes of the training images.

    Raises:
        DataError: some are not; names them and the set, `where`.
    """
    if foreign := sorted(set(found) - set(known)):
        spelled = {class_key(name): name for name in known}
        same = [f"{name} as {spelled[key]}" for name in foreign if (key := class_key(name)) in spelled]
        raise DataError(
            f"{where}: classes without training images: {format_list(foreign)}",
            expected=f"some of {format_list(sorted(known), 20)}",
            next_step=f"write {format_list(same, 5)}" if same else "add them to train, or remove them here",
        )


def class_key(name: str) -> str:
    """Return a class name without what spellings of one class differ in: case, blanks, underscores, leading zeros."""
    key = re.sub(r"[\s_]+", " ", unicodedata.normalize("NFC", name).casefold()).strip()
    return key.lstrip("0") or "0" if key.isdecimal() else key
