"""Concatenation of several data locations with the same layout into one samples table, classes joined by name."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from soups.data.layouts.folders import folder_classes, folder_samples
from soups.data.layouts.image_files import table_name
from soups.data.layouts.layouts import find_layout
from soups.data.settings import DataSettings

if TYPE_CHECKING:
    import pandas as pd

logger = logging.getLogger(__name__)

SOURCE = "source"
"""Column of the samples table with an image's data location, relative to the common parent folder."""


def concat_samples(settings: DataSettings) -> "pd.DataFrame":
    """Concatenate the tables of all data locations, with the additional column `source`.

    Image paths are relative to `settings.root`, so files of the same name in two locations are two images. A class may
    be missing in some locations; groups of the same name are one group. If one location has a validation set, all
    undecided images of the others train. Test and shift sets of the same name are joined.

    Raises:
        DataError: a location does not have the layout.
    """
    import pandas as pd

    layout, root = find_layout(settings), settings.root
    classes = (
        set().union(*(folder_classes(name, settings.class_order or ()) for name in settings.locations))
        if layout is folder_samples
        else set()
    )
    tables = []
    for location in settings.locations:
        one = settings.model_copy(update={"data_location": location})
        table = folder_samples(one, classes) if layout is folder_samples else layout(one)
        images = [table_name(Path(location, image), root) for image in table["image"]]
        tables.append(table.assign(image=images, **{SOURCE: table_name(Path(location), root)}))
    samples = pd.concat(tables, ignore_index=True).sort_values("image", ignore_index=True)
    for split, rows in samples.groupby("split"):
        counts = ", ".join(f"{count:,} of {source}" for source, count in rows.groupby(SOURCE).size().items())
        logger.info("%s images: %s", split or "training", counts)
    return samples
