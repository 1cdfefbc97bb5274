"""The layout `metadata`: images beside a metadata.csv or metadata.jsonl, as in Hugging Face's imagefolder."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from soups.core.errors import DataError
from soups.data.layouts.image_files import FolderListing, existing_folder
from soups.data.layouts.tables import (
    canonical_splits,
    check_labels_present,
    check_unique_ids,
    find_images,
    read_groups,
    table_column,
)
from soups.data.settings import DataSettings
from soups.files.jsonl import read_records
from soups.files.tables import read_table

if TYPE_CHECKING:
    import pandas as pd

METADATA_NAMES = ("metadata.csv", "metadata.jsonl")
FILE_NAME = "file_name"
_SPLITS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("validation", "valid", "val", "dev"), "val"),
    **dict.fromkeys(("test", "testing", "eval", "evaluation"), "test"),
}
"""Folder name → split, as in Hugging Face's imagefolder."""
_EXPECTED = "a metadata.csv or metadata.jsonl with the column file_name, in it or in train/, validation/ and test/"


def metadata_file(folder: Path) -> Path | None:
    """Return the path of a folder's metadata file; None if there is none.

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
    """Return whether a metadata file at the root or in a split's folder has the column `file_name`.

    A metadata.csv without that column is ignored, because it may hold other data.
    """
    folders = [location, *(folder for folder, _ in _split_folders(location))]
    return any(_has_file_names(path) for path in map(metadata_file, folders) if path is not None)


def metadata_samples(settings: DataSettings) -> "pd.DataFrame":
    """Read a data set whose images and labels are listed in metadata files.

    `file_name` is a path relative to the metadata file's folder. There is one file for each of train/, validation/ and
    test/, or one at the root. At the root, the split comes from `--split-column`, else from the first folder of
    `file_name` if that has the name of a split. Labels are text: `3` is the class named 3. A test set may be without
    labels.

    Raises:
        DataError: a file or column is missing, an image is missing or listed twice, or a label is empty.
    """
    import pandas as pd

    root = existing_folder(settings.data_location, "--data-location", _EXPECTED)
    root_file = metadata_file(root)
    if root_file is not None:
        tables = [_read_metadata(root_file, settings, root, None)]
    else:
        sets = [(folder, split, metadata_file(folder)) for folder, split in _split_folders(root)]
        tables = [_read_metadata(path, settings, root, split) for _, split, path in sets if path is not None]
        if not tables:
            raise DataError(f"{root}: no metadata file", expected=_EXPECTED)
        if missing := [folder for folder, split, path in sets if path is None and _is_used(split, settings)]:
            raise DataError(
                f"{missing[0]}: no metadata file in it",
                expected=f"{' or '.join(METADATA_NAMES)} with the column {FILE_NAME}, as in the other sets",
                next_step="add the file; for test images without labels, set --test-location",
            )
    samples = pd.concat(tables, ignore_index=True)
    if settings.test_location is not None:
        samples = samples[samples["split"] != "test"]
    samples["split"] = canonical_splits(samples["split"])
    return samples.sort_values("image", ignore_index=True)


def metadata_test_samples(folder: Path, settings: DataSettings) -> "pd.DataFrame":
    """Read the test images that the metadata file of another folder lists, with labels if it has any.

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
        raise  # No other program writes a metadata.jsonl.


def _load_table(path: Path) -> "pd.DataFrame":
    """Return a metadata file with every cell as text; None becomes ""."""
    import pandas as pd

    if path.suffix == ".csv":
        return read_table(path)
    records = [
        {name: "" if value is None else str(value) for name, value in record.items()} for record in read_records(path)
    ]
    return pd.DataFrame(records, dtype=str).fillna("")


def _read_metadata(path: Path, settings: DataSettings, root: Path, split: str | None) -> "pd.DataFrame":
    """Return the rows of a metadata file; `split` is that of its folder, or None for the file at the root."""
    import pandas as pd

    table = _load_table(path)
    # The flag's default is the usual column of other tables.
    name = FILE_NAME if settings.image_column == "image" else settings.image_column
    ids = table_column(table, name, path, "--image-column")
    check_unique_ids(ids, path)
    if split is not None:
        splits = [split] * len(ids)
    elif settings.split_column is not None:
        splits = canonical_splits(table_column(table, settings.split_column, path, "--split-column"))
    else:
        splits = [_SPLITS.get(image.removeprefix("./").partition("/")[0], "") for image in ids]
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
