"""The layout `metadata`: images beside a metadata.csv or metadata.jsonl, as Hugging Face's imagefolder has them."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from soups.core.errors import DataError
from soups.data.layouts.folders import FolderListing, existing_folder
from soups.data.layouts.tables import (
    canonical_splits,
    check_labels_present,
    check_unique_ids,
    find_images,
    read_groups,
    table_column,
)
from soups.data.settings import DataSettings
from soups.files.atomic import read_records, read_table

if TYPE_CHECKING:
    import pandas as pd

METADATA_NAMES = ("metadata.csv", "metadata.jsonl")
FILE_NAME = "file_name"
_SPLITS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("validation", "valid", "val", "dev"), "val"),
    **dict.fromkeys(("test", "testing", "eval", "evaluation"), "test"),
}
"""What Hugging Face takes a folder of this name for."""
_EXPECTED = "a metadata.csv or metadata.jsonl with the column file_name, in it or in train/, validation/ and test/"


def metadata_file(folder: Path) -> Path | None:
    """The metadata file of a folder; None without one.

    Raises:
        DataError: there are two.
    """
    found = [folder / name for name in METADATA_NAMES if (folder / name).is_file()]
    if len(found) > 1:
        raise DataError(
            f"{folder}: both {' and '.join(METADATA_NAMES)}", expected="one of them", next_step="remove one"
        )
    return found[0] if found else None


def has_metadata(location: Path) -> bool:
    """Whether a data set is laid out so: a metadata file at its root or in a set's folder names files.

    A metadata.csv that does not is somebody's notes.
    """
    folders = [location, *(folder for folder, _ in _split_folders(location))]
    return any(_has_file_names(path) for path in map(metadata_file, folders) if path is not None)


def metadata_samples(settings: DataSettings) -> "pd.DataFrame":
    """The table of a data set whose metadata files name images and labels.

    `file_name` is a path from the metadata file's folder. One file for each of train/, validation/ and test/, or one at
    the root: there `--split-column`, else the first folder of `file_name`, tells the set, where it is called so. Labels
    are text: `3` is the class called 3. A test set without labels is one to predict.

    Raises:
        DataError: a file or column is missing, an image is missing or there twice, or a label is empty.
    """
    import pandas as pd

    root = existing_folder(settings.data_location, "--data-location", _EXPECTED)
    own = metadata_file(root)
    if own is not None:
        tables = [_read_metadata(own, settings, root, None)]
    else:
        parts = [(folder, split, metadata_file(folder)) for folder, split in _split_folders(root)]
        tables = [_read_metadata(path, settings, root, split) for _, split, path in parts if path is not None]
        if not tables:
            raise DataError(f"{root}: no metadata file", expected=_EXPECTED)
        if bare := [folder for folder, split, path in parts if path is None and _is_used(split, settings)]:
            raise DataError(
                f"{bare[0]}: no metadata file in it",
                expected=f"{' or '.join(METADATA_NAMES)} with the column {FILE_NAME}, as in the other sets",
                next_step="add it; test images without labels can be named with --test-location",
            )
    samples = pd.concat(tables, ignore_index=True)
    if settings.test_location is not None:
        samples = samples[samples["split"] != "test"]
    samples["split"] = canonical_splits(samples["split"])
    return samples.sort_values("image", ignore_index=True)


def metadata_test_samples(folder: Path, settings: DataSettings) -> "pd.DataFrame":
    """The test images that the metadata file of another folder names, labelled where it has labels.

    Raises:
        DataError: as `metadata_samples`.
    """
    path = metadata_file(folder)
    assert path is not None, folder
    return _read_metadata(path, settings, settings.root, "test").sort_values("image", ignore_index=True)


def _is_used(split: str, settings: DataSettings) -> bool:
    return split != "test" or settings.test_location is None


def _split_folders(location: Path) -> Iterator[tuple[Path, str]]:
    if location.is_dir():
        yield from ((path, _SPLITS[path.name]) for path in FolderListing(location).folders if path.name in _SPLITS)


def _has_file_names(path: Path) -> bool:
    try:
        return FILE_NAME in _load_table(path)
    except DataError:
        if path.suffix == ".csv":
            return False
        raise  # Nobody else writes files of that name.


def _load_table(path: Path) -> "pd.DataFrame":
    """A metadata file with every cell as text."""
    import pandas as pd

    if path.suffix == ".csv":
        return read_table(path)
    records = [{name: _text(value) for name, value in record.items()} for record in read_records(path)]
    return pd.DataFrame(records, dtype=str).fillna("")


def _text(value: object) -> str:
    return "" if value is None else str(value)


def _read_metadata(path: Path, settings: DataSettings, root: Path, split: str | None) -> "pd.DataFrame":
    """The rows of a metadata file; `split` is that of its folder, None at the root."""
    import pandas as pd

    table = _load_table(path)
    # The default of the flag is the name that other tables have.
    name = FILE_NAME if settings.image_column == "image" else settings.image_column
    ids = table_column(table, name, path, "--image-column")
    check_unique_ids(ids, path)
    if split is not None:
        splits = [split] * len(ids)
    elif settings.split_column is not None:
        splits = canonical_splits(table_column(table, settings.split_column, path, "--split-column"))
    else:
        splits = [_SPLITS.get(each.removeprefix("./").partition("/")[0], "") for each in ids]
    if settings.label_column in table or set(splits) != {"test"}:
        labels = table_column(table, settings.label_column, path, "--label-column")
    else:
        labels = [""] * len(ids)
    check_labels_present(labels, splits, path)
    content = {
        "image": find_images(ids, path, [path.parent], root),
        "label": labels,
        "group": read_groups(table, settings, path),
        "split": splits,
    }
    return pd.DataFrame(content, dtype=str)
