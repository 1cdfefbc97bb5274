"""Which folders of a data set are its sets (training, validation, test, shifts) and which are classes."""

import os
import re
import shlex
import unicodedata
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from soups.core.errors import DataError
from soups.core.notes import add_note, mute_notes
from soups.data.layouts.image_files import FolderListing, folder_names, format_list, images_below

_SET_OF_WORD = {
    **dict.fromkeys(("train", "training", "trn"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "val"),
    **dict.fromkeys(("test", "testing", "tst", "eval", "evaluation"), "test"),
    "shifts": "shifts",
}
_RARE_WORDS = {"dev", "tst", "eval", "evaluation"}
"""Words that rather name a class if there is no training set."""
_FILLERS = {"image", "images", "img", "imgs", "pictures", "photos", "set", "data", "dataset", "seg", "split"}
"""Words that may stand beside the word of a set, as numbers may: `train_images`, `seg_test`, `val2017`."""
_GLUED = re.compile(rf"({'|'.join(_SET_OF_WORD)})({'|'.join(sorted(_FILLERS))})")
_UNLABELLED = _FILLERS | {"all", "none", "unknown", "unlabeled", "unlabelled", "dummy"}
"""Names of the only folder in a test set whose images have no labels."""
_PART = re.compile(r"(fold|split|part|batch|cv|k|chunk|subset)[ _-]?\d+", re.IGNORECASE)

_PROJECT_FOLDERS = {
    *("output", "outputs", "result", "results", "log", "logs", "figures", "plots", "predictions", "submissions"),
    *("notebooks", "src", "code", "docs", "tmp", "temp", "thumbnails", "previews"),
}
"""Folders that may hold images of a project beside its data."""

ClassFolders = list[tuple[str, Path]]
"""Class and folder; a class may have several folders, whose names differ in their form of Unicode."""


@dataclass(frozen=True)
class DataTree:
    """The sets of a data set: `train`, `val`, `test` and `shifts`; only "" if its folders are classes."""

    folders: dict[str, Path]
    """The folder of each set; the folder of the classes if each class holds its sets."""
    classes: dict[str, ClassFolders]
    """The class folders of each set, except those of `shifts`, and of a `test` whose images may have no labels."""


def read_tree(location: Path, known: Collection[str] = ()) -> DataTree:
    """Return which folders are sets and classes.

    Args:
        location: the data location.
        known: names that the user declared to be classes.

    Raises:
        DataError: the names fit two readings, or none.
    """
    root = find_root(location)
    folders = class_folders(root)
    _note_skipped_folders(root)
    if found := _find_sets(root, folders):
        labelled = [name for name in ("train", "val") if name in found]
        for name in labelled:
            _note_skipped_folders(found[name])
        return DataTree(found, {name: as_classes(class_folders(found[name])) for name in labelled})
    if inverted := _sets_in_classes(root, folders):
        return DataTree(dict.fromkeys(inverted, root), inverted)
    _check_no_parts(root, folders)
    _check_no_project(root, folders, known)
    return DataTree({"": root}, {"": as_classes(folders)})


def as_classes(folders: Sequence[Path]) -> ClassFolders:
    """Return folders with their names in Unicode's composed form."""
    return [(unicodedata.normalize("NFC", path.name), path) for path in folders]


def set_of(name: str) -> str | None:
    """Return the set that a folder's name stands for: "train", "val", "test" or "shifts"; None for other names."""
    words = _words(name)
    sets = [word for word in words if word in _SET_OF_WORD]
    others = [word for word in words if word not in _SET_OF_WORD and word not in _FILLERS and not word[0].isdecimal()]
    return _SET_OF_WORD[sets[0]] if len(sets) == 1 and not others else None


def set_of_word(word: str) -> str:
    """Return the set that a cell names in any case, such as `Validation`; other words as they are."""
    return _SET_OF_WORD.get(word.lower(), word)


def _words(name: str) -> list[str]:
    """Return the words of a name in lower case: `trainImages2` → train, images, 2."""
    parts = re.findall(r"\d+x\d+|\d+|[^\W\d_]+", re.sub("(?<=[a-z])(?=[A-Z])", " ", name).lower())
    return [word for part in parts for word in (_GLUED.sub(r"\1 \2", part) if _GLUED.fullmatch(part) else part).split()]


def find_root(location: Path) -> Path:
    """Return the folder with the sets or classes: the location, or the only folder in it if that holds them.

    A location that holds nothing but one folder, which holds no images but several folders, is a wrapping, as archives
    are often unpacked.
    """
    folders = class_folders(location)
    if FolderListing(location).images or len(folders) != 1 or set_of(folders[0].name) == "train":
        return location
    only, inner = folders[0], class_folders(folders[0])
    holds_sets = len(inner) > 1 or (len(inner) == 1 and set_of(inner[0].name) == "train")
    deeper = find_root(only)
    if FolderListing(only).images or (deeper == only and not holds_sets):
        return location
    if deeper == only:
        add_note("read as", f"{location}: its only folder is {deeper.relative_to(location).as_posix()}, which is read")
    return deeper


def with_test_folders(location: Path) -> list[Path]:
    """Return a data location, the only folder in it if that is read instead, and the test sets in both."""
    found = [location]
    with suppress(DataError), mute_notes():
        found = list(dict.fromkeys([location, find_root(location)])) if location.is_dir() else found
    return [
        each
        for path in found
        for each in (path, *(path / name for name in folder_names(path) if set_of(name) == "test"))
    ]


def class_folders(folder: Path) -> list[Path]:
    """Return the folders in a folder that may be sets or classes: not those of runs and tools, and no links to above.

    Raises:
        DataError: images have the separators of Windows in their names.
    """
    listing = FolderListing(folder)
    _check_windows_names(listing)
    return [path for path in listing.folders if not _is_runs_folder(path) and not _is_loop(path)]


def _note_skipped_folders(folder: Path) -> None:
    """Say which folders `class_folders` leaves out although they hold images."""
    listing = FolderListing(folder)
    tools = [*filter(_is_runs_folder, listing.folders), *listing.tools]
    if names := [path.name for path in tools if images_below(path)[0]]:
        add_note("left out", f"{folder}: images in folders of runs or tools are not read: {format_list(names)}")
    if loops := [path.name for path in listing.folders if _is_loop(path)]:
        text = f"{folder}: links to a folder above are not followed: {format_list(loops)}"
        add_note("left out", text, warning=True)


def _is_loop(path: Path) -> bool:
    return path.is_symlink() and Path(os.path.realpath(path.parent)).is_relative_to(os.path.realpath(path))


def _is_runs_folder(path: Path) -> bool:
    return any((path / name / "samples.csv").exists() for name in folder_names(path))


def _check_windows_names(listing: FolderListing) -> None:
    """Raise if most images are named like paths of Windows, as some programs unpack archives: `train\\cat\\0.png`."""
    names = [path.name for path in listing.images if "\\" in path.name]
    if len(names) * 2 > len(listing.images):
        loop = 'for f in *\\\\*; do p="${f//\\\\//}"; mkdir -p "${p%/*}"; mv -- "$f" "$p"; done'
        raise DataError(
            f"{listing.path}: {len(names):,} images have paths of Windows as their names, such as {names[0]}",
            expected="folders, as in the archive",
            next_step=f"make the folders: bash -c 'cd \"$0\" && {loop}' {shlex.quote(str(listing.path))}",
        )


def _find_sets(root: Path, folders: Sequence[Path]) -> dict[str, Path]:
    """Return set → folder of the sets among folders; empty if they are classes.

    Folders that look like sets are classes if the one of the training set holds images directly and other folders
    stand beside it: `bus`, `plane` and `train`.

    Raises:
        DataError: two folders stand for one set, or there are sets without a training set.
    """
    named: dict[str, list[Path]] = {}
    for folder in folders:
        if name := set_of(folder.name):
            named.setdefault(name, []).append(folder)
    others = [folder for folder in folders if set_of(folder.name) is None]
    if "train" not in named:
        found = [path.name for name in ("val", "test", "shifts") for path in named.get(name, ())]
        if not found:
            _check_no_unusual_sets(root, folders)
        if not found or (others and {name.lower() for name in found} <= _RARE_WORDS):
            return {}
        raise DataError(
            f"{root}: has {format_list(found)} but no train",
            expected="train/<class>/… beside it, or only folders that are classes",
            found=format_list([path.name for path in folders]),
            next_step=f"name the folder of training images train; if {found[0]} is a class, rename it",
        )
    train = FolderListing(named["train"][0])
    if others and set(named) == {"train"} and train.images and not train.folders:
        add_note("read as", f"{root}: {train.path.name} is read as a class, because it holds images directly")
        return {}
    for name, paths in named.items():
        if len(paths) > 1:
            raise DataError(
                f"{root}: several folders may be the set {name}: {format_list([path.name for path in paths])}",
                expected="one",
                next_step="remove or rename the others, or pass one of them with --data-location or --test-location",
            )
    sets = {name: _unwrapped(paths[0]) for name, paths in named.items()}
    _note_sets(root, sets, others)
    return sets


def _check_no_unusual_sets(root: Path, folders: Sequence[Path]) -> None:
    """Raise if every folder is named after a set, but not in a usual way: `trainA`, `trainB`, `testA`."""
    kinds = [{_SET_OF_WORD[word] for word in _words(path.name) if word in _SET_OF_WORD} for path in folders]
    if folders and all(kinds) and len(set().union(*kinds)) > 1:
        raise DataError(
            f"{root}: its folders look like sets, not like classes",
            expected="train/<class>/…, val/<class>/… and test/<class>/…",
            found=format_list([path.name for path in folders]),
            next_step=f"rename them, or pass one that holds classes: --data-location {shlex.quote(str(folders[-1]))}",
        )


def _unwrapped(folder: Path) -> Path:
    """Return `train/train` or `train/images` for a folder `train` that holds nothing else; that may hold no images."""
    listing = FolderListing(folder)
    if listing.images or len(listing.folders) != 1:
        return folder
    (only,) = listing.folders
    if set_of(only.name) == set_of(folder.name) or (set(_words(only.name)) <= _FILLERS and folder_names(only)):
        return _unwrapped(only)
    return folder


def _note_sets(root: Path, sets: dict[str, Path], others: Sequence[Path]) -> None:
    renamed = {name: path.relative_to(root).as_posix() for name, path in sets.items()}
    if any(name != path for name, path in renamed.items()):
        pairs = (f"{path} is the set {name}" for name, path in renamed.items())
        add_note("read as", f"{root}: {', '.join(pairs)}")
    if unused := [path.name for path in others if images_below(path)[0]]:
        text = f"{root}: folders that are no set are not used: {format_list(unused)}"
        add_note("left out", text, warning=True)


def _sets_in_classes(root: Path, folders: Sequence[Path]) -> dict[str, ClassFolders]:
    """Return the sets of `<class>/train/…` and `<class>/test/…`; empty if the folders hold no sets.

    Raises:
        DataError: folders hold data sets of their own.
    """
    inside = {folder: {set_of(name): folder / name for name in folder_names(folder)} for folder in folders}
    trained = {path: sets for path, sets in inside.items() if "train" in sets}
    holding = {path: sets for path, sets in trained.items() if len({*sets} - {None}) > 1 or folder_names(sets["train"])}
    if not holding:
        return {}
    if len(trained) < len(folders) or any(None in sets or folder_names(sets["train"]) for sets in trained.values()):
        listed = [shlex.quote(str(path)) for path in holding]
        several = f", or the classes of all: --data-location {' '.join(listed)}" if len(listed) > 1 else ""
        raise DataError(
            f"{root}: folders hold sets of their own: {format_list([path.name for path in holding])}",
            expected="the folder that holds train/",
            found=format_list([path.name for path in folders]),
            next_step=f"--data-location {listed[0]}{several}",
        )
    names = sorted({str(name) for sets in trained.values() for name in sets})
    add_note("read as", f"{root}: the sets {', '.join(names)} are folders within the classes")
    found = {name: [(path, sets[name]) for path, sets in trained.items() if name in sets] for name in names}
    return {name: [(as_classes([path])[0][0], folder) for path, folder in pairs] for name, pairs in found.items()}


def _check_no_parts(root: Path, folders: Sequence[Path]) -> None:
    """Raise if the folders are numbered parts with the same folders in each: `fold1/cat`, `fold2/cat`."""
    inside = [set(folder_names(path)) for path in folders]
    if len(folders) > 1 and set.intersection(*inside) and all(_PART.fullmatch(path.name) for path in folders):
        raise DataError(
            f"{root}: its folders look like parts of one data set, not like classes",
            expected="folders of classes",
            found=f"{format_list([path.name for path in folders])}, each with {format_list(sorted(inside[0]), 3)}",
            next_step=f"join them: --data-location {shlex.join(map(str, folders))}",
        )


def _check_no_project(root: Path, folders: Sequence[Path], known: Collection[str]) -> None:
    """Raise if a folder of a project stands beside classes and holds images: `figures`, `outputs`."""
    doubtful = [path for path in folders if path.name.lower() in _PROJECT_FOLDERS and path.name not in known]
    if names := [path.name for path in doubtful if images_below(path)[0]]:
        raise DataError(
            f"{root}: folders that may be no classes hold images: {format_list(names)}",
            expected="folders of classes only, or train/<class>/…",
            found=format_list([path.name for path in folders]),
            next_step="move them away; if they are classes, name all classes with --class-order",
        )


def is_unlabelled_folder(name: str) -> bool:
    """Return whether a test set's only folder with this name holds images without labels, unless it is a class."""
    return set(_words(name)) <= _UNLABELLED or set_of(name) == "test"
