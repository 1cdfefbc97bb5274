"""Several data locations as one data set: the same layout in each, classes joined by name."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from soups.data.layouts.folders import table_name
from soups.data.layouts.layouts import find_layout, folder_classes, folder_samples
from soups.data.settings import DataSettings

if TYPE_CHECKING:
    import pandas as pd

logger = logging.getLogger(__name__)

SOURCE = "source"
"""Column of the samples table that names an image's data location, as seen from the folder that all lie in."""


def concat_samples(settings: DataSettings) -> "pd.DataFrame":
    """The tables of all data locations, one below the other, with the column `source`.

    Images are called by their paths from `settings.root`, so two of one name are two images. A class of one folder may
    be missing in another; groups of one name are one group. Where one folder has a validation set, the images of the
    others all train; test and shift sets of one name are joined.

    Raises:
        DataError: a folder is not as its layout has it.
    """
    import pandas as pd

    layout, root = find_layout(settings), settings.root
    classes = set().union(*map(folder_classes, settings.locations)) if layout is folder_samples else set()
    tables = []
    for location in settings.locations:
        part = settings.model_copy(update={"data_location": location})
        table = folder_samples(part, classes) if layout is folder_samples else layout(part)
        images = [table_name(Path(location, image), root) for image in table["image"]]
        tables.append(table.assign(image=images, **{SOURCE: table_name(Path(location), root)}))
    samples = pd.concat(tables, ignore_index=True).sort_values("image", ignore_index=True)
    for split, rows in samples.groupby("split"):
        counts = ", ".join(f"{count:,} of {source}" for source, count in rows.groupby(SOURCE).size().items())
        logger.info("%s images: %s", split or "training", counts)
    return samples
