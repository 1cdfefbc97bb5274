"""The group of each image (person, writer, scene), so that a split never separates images of one group.

An image without a group is a group by itself. The split itself is in `split.py`."""

import logging
import re
from typing import TYPE_CHECKING

from soups.core.errors import DataError, UsageError
from soups.core.notes import add_note
from soups.data.layouts.columns import find_id_column, table_column
from soups.data.layouts.image_files import format_list, lookup_keys, positions_by_key
from soups.data.layouts.image_search import check_one_match
from soups.data.layouts.tables import check_filled, check_unique_ids, locate_table
from soups.data.settings import DataSettings
from soups.files.tables import canonical_id, read_table

if TYPE_CHECKING:
    import pandas as pd

logger = logging.getLogger(__name__)


def add_groups(samples: "pd.DataFrame", settings: DataSettings) -> "pd.DataFrame":
    """Fill the column `group`: from `--groups`, `--group-pattern`, the layout, else with the image's own path.

    A training or validation image without a group in the selected source is an error. A test or shift image without one
    becomes a group by itself, with a warning.

    Raises:
        UsageError: two sources are set, or the pattern is not a regular expression.
        DataError: the CSV is invalid, or training or validation images have no group in it.
    """
    # If --groups is set, --group-column names the column of that CSV.
    from_column = settings.layout in ("csv", "metadata") and not settings.groups and settings.group_column
    sources = {"--groups": settings.groups, "--group-pattern": settings.group_pattern, "--group-column": from_column}
    flags = [flag for flag, value in sources.items() if value]
    if len(flags) > 1:
        raise UsageError(f"{' and '.join(flags)} both name the groups", expected="one of them")
    samples = samples.copy()
    images = list(samples["image"])
    if settings.groups:
        groups = _groups_from_table(images, settings)
    elif settings.group_pattern:
        try:
            expression = re.compile(settings.group_pattern)
        except re.error as error:
            problem = f"--group-pattern {settings.group_pattern!r}: not a regular expression"
            raise UsageError(problem, found=str(error)) from error
        matches = map(expression.search, images)
        groups = [(match[1 if expression.groups else 0] or "") if match else "" for match in matches]
    else:
        groups = list(samples["group"])
    if flags:
        _check_groups_known(samples, groups, flags[0])
    samples["group"] = [group or image for group, image in zip(groups, images, strict=True)]
    _warn_of_shared_groups(samples)
    return samples


def _groups_from_table(images: list[str], settings: DataSettings) -> list[str]:
    path = locate_table(settings.groups or "", settings.root)
    table, positions = read_table(path), positions_by_key(images)
    id_column = find_id_column(table, path, settings.image_column, lambda name: canonical_id(name) in positions)
    ids = list(map(canonical_id, table_column(table, id_column, path, "--image-column")))
    column = settings.group_column or "group"
    groups = table_column(table, column, path, "--group-column")
    check_unique_ids(ids, path)
    check_filled(groups, path, f"column {column!r}", "the name of the group")
    for row, name in enumerate(ids, start=2):
        check_one_match([images[position] for position in positions.get(name, ())], name, row, path)
    if unknown := [name for name in ids if name not in positions]:
        add_note("left out", f"{path}: {len(unknown):,} rows name no image of this data: {format_list(unknown, 5)}")
    group_by_id = dict(zip(ids, groups, strict=True))
    return [next((group_by_id[key] for key in lookup_keys(image) if key in group_by_id), "") for image in images]


def _check_groups_known(samples: "pd.DataFrame", groups: list[str], flag: str) -> None:
    """Raise if a training or validation image has no group; warn of other images without one."""
    rows = list(zip(samples["image"], samples["split"], groups, strict=True))
    if unknown := [image for image, split, group in rows if not group and split in {"", "train", "val"}]:
        raise DataError(
            f"{flag}: no group for {len(unknown)} images: {format_list(unknown, 5)}",
            expected="a group for each training and validation image",
        )
    if count := sum(not group for _, _, group in rows):
        logger.warning("%s: no group for %d test images; each is a group by itself", flag, count)


def _warn_of_shared_groups(samples: "pd.DataFrame") -> None:
    """Warn if sets that the data location defines share a group; `split_samples` never separates a group."""
    by_split = {str(split): set(rows["group"]) for split, rows in samples.groupby("split")}
    learned = by_split.get("train", set()) | by_split.get("", set())
    for split in ("val", "test"):
        if shared := sorted(learned & by_split.get(split, set())):
            logger.warning(
                "groups both in train and in %s, so that scores are too high: %s", split, format_list(shared, 5)
            )
