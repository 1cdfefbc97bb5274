"""The registry of layouts. Each layout is a function from settings to a table of samples.

Text columns: `image` (posix path relative to the data location), `label` ("" if unlabelled), `group` ("" if unknown),
`split` ("train", "val", "test", a shift's name, or "" for `split_samples` to decide), one for each factor."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from soups.core.errors import unknown_name
from soups.data.layouts.factor_layout import factor_samples, factor_test_samples
from soups.data.layouts.folders import as_table, folder_samples, read_test_folder
from soups.data.layouts.image_files import existing_folder, is_image_name, table_name, unpack_command
from soups.data.layouts.metadata import has_metadata, metadata_file, metadata_samples, read_metadata
from soups.data.layouts.schema import SCHEMA_ENDINGS, is_schema
from soups.data.layouts.tables import csv_samples, csv_test_samples
from soups.data.settings import DataSettings

if TYPE_CHECKING:
    import pandas as pd


def separate_test_samples(settings: DataSettings, classes: set[str]) -> "pd.DataFrame":
    """Read the test images at `--test-location`: a folder (by class, or without labels), a CSV, or one image.

    Raises:
        DataError: the location does not exist, has no images, or has a class without training images.
    """
    location = Path(settings.test_location or "")
    if is_schema(settings.layout) and (labelled := factor_test_samples(settings)) is not None:
        return labelled
    if location.is_file() and is_image_name(location.name):
        return as_table([(table_name(location, settings.root), "", "", "test")])
    if location.is_file() and not unpack_command(location):
        return csv_test_samples(location, settings, classes)
    if has_metadata(location) and (path := metadata_file(location)) is not None:
        return read_metadata(path, settings, "test").sort_values("image", ignore_index=True)
    expected = "a folder of images (by class or not), a CSV file, or an image"
    folder = existing_folder(settings.test_location, "--test-location", expected)
    return as_table(read_test_folder(folder, settings.root, classes, by_class=False))


def find_layout(settings: DataSettings) -> Callable[[DataSettings], "pd.DataFrame"]:
    """Return the function of a layout: an entry of `LAYOUTS`, or `factor_samples` for a YAML file.

    Raises:
        UsageError: the layout is unknown.
    """
    if settings.layout in LAYOUTS:
        return LAYOUTS[settings.layout]
    if settings.layout.endswith(SCHEMA_ENDINGS):
        return factor_samples
    raise unknown_name("layout", settings.layout, [*LAYOUTS, "auto", "a file that ends in .yaml"])


LAYOUTS: dict[str, Callable[[DataSettings], "pd.DataFrame"]] = {
    "folder": folder_samples,
    "csv": csv_samples,
    "metadata": metadata_samples,
    "profile": factor_samples,
}
