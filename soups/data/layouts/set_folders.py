"""Which folders of a data set are its sets (training, validation, test, shifts) and which are classes."""

import logging
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from soups.core.errors import DataError
from soups.data.layouts.image_files import FolderListing, format_list, images_below

logger = logging.getLogger(__name__)

_SET_OF_WORD = {
    **dict.fromkeys(("train", "training", "trn"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "val"),
    **dict.fromkeys(("test", "testing", "tst", "eval", "evaluation"), "test"),
    "shifts": "shifts",
}
_RARE_WORDS = {"dev", "tst", "eval", "evaluation"}
"""Words that rather name a class if there is no training set."""
_FILLERS = {"image", "images", "img", "imgs", "pictures", "photos", "set", "data", "dataset", "seg", "split"}
"""Words that may stand beside the word of a set: `train_images`, `seg_test`."""
_TOOL_FOLDERS = {"runs", "wandb", "mlruns", "lightning_logs"}


def set_of(name: str) -> str | None:
    """Return the set that a folder's name stands for: "train", "val", "test" or "shifts"; None for other names."""
    words = [word for word in re.split(r"[\s_.-]+", name.lower()) if word]
    sets = [word for word in words if word in _SET_OF_WORD]
    others = [word for word in words if word not in _SET_OF_WORD and word not in _FILLERS]
    return _SET_OF_WORD[sets[0]] if len(sets) == 1 and not others else None


def find_root(location: Path) -> Path:
    """Return the folder with the sets or classes: the location, or the only folder in it if that holds them.

    A location that holds nothing but one folder, which holds no images but several folders, is a wrapping, as archives
    are often unpacked.
    """
    listing = FolderListing(location)
    folders = class_folders(listing)
    if listing.images or len(folders) != 1 or set_of(folders[0].name) == "train":
        return location
    inner = FolderListing(folders[0])
    deeper = find_root(folders[0])
    if inner.images or (len(inner.folders) < 2 and deeper == folders[0]):
        return location
    if deeper == folders[0]:
        logger.info("%s: its only folder is %s, which is read", location, deeper.name)
    return deeper


def class_folders(listing: FolderListing) -> list[Path]:
    """Return the folders that may be sets or classes: all but those of runs and of tracking tools."""
    tools = [path for path in listing.folders if path.name.lower() in _TOOL_FOLDERS or _is_runs_folder(path)]
    return [path for path in listing.folders if path not in tools]


def _is_runs_folder(path: Path) -> bool:
    return any(path.glob("*/samples.csv"))


def find_sets(root: Path, folders: Sequence[Path]) -> dict[str, Path]:
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
        if not found or (others and {name.lower() for name in found} <= _RARE_WORDS):
            return {}
        raise DataError(
            f"{root}: has {format_list(found)} but no train",
            expected="train/<class>/… beside it, or only folders that are classes",
            found=format_list([path.name for path in folders]),
            next_step=f"name the folder of training images train; if {found[0]} is a class, rename it",
        )
    if others and set(named) == {"train"} and not FolderListing(named["train"][0]).folders:
        logger.info("%s: %s is read as a class, because it holds images directly", root, named["train"][0].name)
        return {}
    for name, paths in named.items():
        if len(paths) > 1:
            raise DataError(
                f"{root}: several folders may be the set {name}: {format_list([path.name for path in paths])}",
                expected="one",
                next_step="remove or rename the others, or pass one of them with --data-location or --test-location",
            )
    sets = {name: _undoubled(paths[0]) for name, paths in named.items()}
    _log_choice(root, sets, others)
    return sets


def _undoubled(folder: Path) -> Path:
    """Return `train/train` for a folder `train` that holds nothing but a folder of the same set."""
    listing = FolderListing(folder)
    if not listing.images and len(listing.folders) == 1 and set_of(listing.folders[0].name) == set_of(folder.name):
        return _undoubled(listing.folders[0])
    return folder


def _log_choice(root: Path, sets: Mapping[str, Path], others: Sequence[Path]) -> None:
    renamed = {name: path.relative_to(root).as_posix() for name, path in sets.items()}
    if any(name != path for name, path in renamed.items()):
        logger.info("%s: %s", root, ", ".join(f"{path} is the set {name}" for name, path in renamed.items()))
    unused = [path.name for path in others if images_below(path)[0]]
    if unused:
        logger.warning("%s: not used, because it is no set: %s", root, format_list(unused))
