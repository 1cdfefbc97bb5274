"""The layout `metadata`: images beside a metadata.csv or metadata.jsonl, as in Hugging Face's imagefolder."""

from pathlib import Path
from typing import TYPE_CHECKING

from soups.core.errors import DataError
from soups.data.layouts.columns import canonical_splits, find_splits, table_column
from soups.data.layouts.image_files import FolderListing, existing_folder
from soups.data.layouts.image_search import ImageSearch
from soups.data.layouts.set_folders import set_of
from soups.data.layouts.tables import listed_samples
from soups.data.settings import DataSettings
from soups.files.jsonl import read_records
from soups.files.tables import canonical_id, read_table

if TYPE_CHECKING:
    import pandas as pd

METADATA_NAMES = ("metadata.csv", "metadata.jsonl")
FILE_NAME = "file_name"
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
    for folder in (location, *_split_folders(location)):
        path = metadata_file(folder)
        try:
            if path is not None and FILE_NAME in _load_table(path):
                return True
        except DataError:
            if path is not None and path.suffix != ".csv":  # No other program writes a metadata.jsonl.
                raise
    return False


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
        tables = [read_metadata(root_file, settings, None)]
    else:
        folders = _split_folders(root)
        if settings.test_location is not None:
            folders = {folder: split for folder, split in folders.items() if split != "test"}
        files = {folder: metadata_file(folder) for folder in folders}
        missing = [folder for folder, path in files.items() if path is None]
        if len(missing) == len(files):
            raise DataError(f"{root}: no metadata file", expected=_EXPECTED)
        if missing:
            raise DataError(
                f"{missing[0]}: no metadata file in it",
                expected=f"{' or '.join(METADATA_NAMES)} with the column {FILE_NAME}, as in the other sets",
                next_step="add the file; for test images without labels, set --test-location",
            )
        tables = [read_metadata(path, settings, folders[folder]) for folder, path in files.items() if path]
    samples = pd.concat(tables, ignore_index=True)
    if settings.test_location is not None:
        samples = samples[samples["split"] != "test"]
    samples["split"] = canonical_splits(samples["split"])
    return samples.sort_values("image", ignore_index=True)


def _split_folders(location: Path) -> dict[Path, str]:
    """Return the sub-folders that have the name of a split, with that split."""
    folders = FolderListing(location).folders if location.is_dir() else []
    return {path: kind for path in folders if (kind := set_of(path.name)) in ("train", "val", "test") and kind}


def _load_table(path: Path) -> "pd.DataFrame":
    """Return a metadata file with every cell as text; None becomes ""."""
    import pandas as pd

    if path.suffix == ".csv":
        return read_table(path)
    records = [
        {name: "" if value is None else str(value) for name, value in record.items()} for record in read_records(path)
    ]
    return pd.DataFrame(records, dtype=str).fillna("")


def read_metadata(path: Path, settings: DataSettings, split: str | None) -> "pd.DataFrame":
    """Return the rows of a metadata file; `split` is that of its folder, or None for the file at the root.

    Raises:
        DataError: as `metadata_samples`.
    """
    table = _load_table(path)
    search = ImageSearch([path.parent], settings.root)
    # Older runs recorded the usual column of other tables.
    settings = settings.model_copy(update={"image_column": None}) if settings.image_column == "image" else settings
    if split is not None:
        splits = [split] * len(table)
    elif (found := find_splits(table, path, settings.split_column)) is not None:
        splits = found
    else:
        ids = table_column(table, settings.image_column or FILE_NAME, path, "--image-column")
        firsts = [canonical_id(image).partition("/")[0] for image in ids]
        splits = [kind if (kind := set_of(first)) in ("train", "val", "test") and kind else "" for first in firsts]
    return listed_samples(table, path, settings, splits, search, FILE_NAME)
