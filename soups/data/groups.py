"""Which images belong together: people, writers, scenes. An image of which nothing is said is its own group."""

import logging
import re
from typing import TYPE_CHECKING

from soups.core.errors import DataError, UsageError
from soups.data.layouts.folders import format_list, lookup_keys
from soups.data.layouts.tables import check_unique_ids, locate_table, table_column
from soups.data.settings import DataSettings
from soups.files.atomic import read_table

if TYPE_CHECKING:
    import pandas as pd

logger = logging.getLogger(__name__)


def add_groups(samples: "pd.DataFrame", settings: DataSettings) -> "pd.DataFrame":
    """The table with its `group` column filled: from `--groups`, `--group-pattern`, the layout, else the image itself.

    A training or validation image of which the chosen source says nothing is an error; a test or shift image then is
    its own group, with a notice.

    Raises:
        UsageError: two sources at once, or a pattern that is no regular expression.
        DataError: the CSV is damaged, or says nothing of some training images.
    """
    sources = {
        "--groups": settings.groups,
        "--group-pattern": settings.group_pattern,
        # With --groups, --group-column names the column of that CSV.
        "--group-column": settings.group_column
        if settings.layout in ("csv", "metadata") and not settings.groups
        else None,
    }
    given = [flag for flag, value in sources.items() if value]
    if len(given) > 1:
        raise UsageError(f"{' and '.join(given)} both name the groups", expected="one of them")
    samples = samples.copy()
    images = list(samples["image"])
    if settings.groups:
        groups = _groups_from_table(images, settings)
    elif settings.group_pattern:
        groups = _groups_from_pattern(images, settings.group_pattern)
    else:
        groups = list(samples["group"])
    if given:
        _check_groups_known(samples, groups, given[0])
    samples["group"] = [group or image for group, image in zip(groups, images, strict=True)]
    _warn_of_shared_groups(samples)
    return samples


def _groups_from_table(images: list[str], settings: DataSettings) -> list[str]:
    path = locate_table(settings.groups or "", settings.root)
    table = read_table(path)
    ids = table_column(table, settings.image_column, path, "--image-column")
    groups = table_column(table, settings.group_column or "group", path, "--group-column")
    check_unique_ids(ids, path)
    for row, group in enumerate(groups, start=2):
        if not group:
            raise DataError(f"{path}, row {row}: the group is empty", expected="the name of the group")
    group_of = {name.removeprefix("./"): group for name, group in zip(ids, groups, strict=True)}
    return [next((group_of[key] for key in lookup_keys(image) if key in group_of), "") for image in images]


def _groups_from_pattern(images: list[str], pattern: str) -> list[str]:
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise UsageError(f"--group-pattern {pattern!r}: not a regular expression", found=str(error)) from error
    matches = [expression.search(image) for image in images]
    return [(match[1 if expression.groups else 0] or "") if match else "" for match in matches]


def _check_groups_known(samples: "pd.DataFrame", groups: list[str], flag: str) -> None:
    both = list(zip(samples["image"], samples["split"], groups, strict=True))
    if unknown := [image for image, split, group in both if not group and split in {"", "train", "val"}]:
        raise DataError(
            f"{flag} says nothing of {len(unknown)} images: {format_list(unknown, 5)}",
            expected="a group for each training and validation image",
        )
    if count := sum(not group for _, _, group in both):
        logger.warning("%s says nothing of %d test images; each counts as its own group", flag, count)


def _warn_of_shared_groups(samples: "pd.DataFrame") -> None:
    """Say it where splits that were given share a group; ours never do."""
    by_split = {str(split): set(rows["group"]) for split, rows in samples.groupby("split")}
    learned = by_split.get("train", set()) | by_split.get("", set())
    for split in ("val", "test"):
        if shared := sorted(learned & by_split.get(split, set())):
            logger.warning("groups both in train and in %s, which flatters: %s", split, format_list(shared, 5))
