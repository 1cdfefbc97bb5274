"""Predictions as tables: in the columns and order of a template where there is one, and truth read back."""

import logging
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from soups.answertables import USUAL_ANSWERS
from soups.data.folders import TEMPLATE_NAMES, listing, name_keys
from soups.data.settings import DataSettings
from soups.data.tables import listed_images, refuse_doubled
from soups.errors import DataError
from soups.labels import LabelSpace
from soups.records import read_table

if TYPE_CHECKING:
    import pandas as pd

logger = logging.getLogger(__name__)

ID, ANSWER, CONFIDENCE = "image", "target", "confidence"


def find_template(data_locations: Sequence[str | Path], test_location: str | Path | None) -> Path | None:
    """The submission template beside the test images: `sample_submission.csv`, else `info.csv`; None without one.

    Looked for in and beside the test location, in the data locations and in their `test/`.
    """
    folders = []
    if test_location is not None:
        test = Path(test_location)
        folders += [test.parent] if test.is_file() else [test, test.parent]
    for location in data_locations:
        folders += [Path(location), Path(location) / "test"]
    candidates = [folder / name for name in TEMPLATE_NAMES for folder in folders]
    return next((path for path in candidates if path.is_file()), None)


def fill_template(
    template_path: Path, images: Sequence[str], probabilities: np.ndarray, space: LabelSpace
) -> "pd.DataFrame":
    """The template's table with its answer filled in: its columns, its rows, its order.

    The first column holds the ids: an image's path or file name, with or without ending. A template with one column
    for each class gets probabilities; otherwise the answer is its last column, and is the class index where the
    template's own answers are whole numbers, else the class name.

    Args:
        template_path: a CSV; its answers are placeholders and never truth.
        images: N paths as the samples table has them.
        probabilities: (N, C) float.
        space: C classes.

    Raises:
        DataError: the template has one column only, or an id that is doubled, empty, or of no image or of several.
    """
    table = read_table(template_path)
    if len(table.columns) < 2:
        raise DataError(f"{template_path}: one column only", expected="an id column and an answer column")
    rows = align(list(table.iloc[:, 0]), images, template_path)
    if unasked := len(images) - len(set(rows.tolist())):
        logger.warning("%s: does not ask for %d of the %d images", template_path, unasked, len(images))
    if set(table.columns[1:]) == set(space.names):
        for index, name in enumerate(space.names):
            table[name] = probabilities[rows, index]
        return table
    best = probabilities.argmax(axis=1)[rows]
    answer = table.columns[-1] if ANSWER not in table.columns[1:] else ANSWER
    placeholders = [str(value).strip() for value in table[answer]]
    if _are_indices(placeholders, space):
        table[answer] = best.astype(np.int64)
    else:
        table[answer] = space.decode(best)
    return table


def default_table(
    images: Sequence[str], probabilities: np.ndarray, space: LabelSpace, all_probabilities: bool = False
) -> "pd.DataFrame":
    """`image`, `target` (class name), `confidence` in [0, 1]; then one column for each class where asked for.

    Args:
        images: N paths as the samples table has them.
        probabilities: (N, C) float.
        space: C classes.
        all_probabilities: whether to add the columns of the classes, in the space's order.
    """
    import pandas as pd

    best = probabilities.argmax(axis=1)
    confidence = probabilities[np.arange(len(best)), best]
    table = pd.DataFrame({ID: list(images), ANSWER: space.decode(best), CONFIDENCE: confidence})
    if not all_probabilities:
        return table
    classes = pd.DataFrame(probabilities, columns=list(space.names))
    return pd.concat([table, classes], axis=1)


def in_order_of(predictions: "pd.DataFrame", path: Path, settings: DataSettings) -> "pd.DataFrame":
    """Predictions in the order of the CSV that named the test images, called as it calls them.

    Args:
        predictions: column `image`, with paths as the samples table has them.
        path: the CSV.
        settings: name its column and the data location.

    Raises:
        DataError: the CSV names an image that is not among them.
    """
    ids, images = listed_images(path, settings)
    place = {image: row for row, image in enumerate(predictions[ID])}
    if settings.limit is not None:  # A first look has some of them alone.
        ids = [name for name, image in zip(ids, images, strict=True) if image in place]
        images = [image for image in images if image in place]
    if missing := [image for image in images if image not in place]:
        raise DataError(
            f"{path}: images that the run does not have: {listing(missing, 5)}", next_step="restore the CSV"
        )
    return predictions.iloc[[place[image] for image in images]].assign(**{ID: ids}).reset_index(drop=True)


def read_truth(path: Path, images: Sequence[str], space: LabelSpace) -> list[str]:
    """The class names of `images`, N of them, from a CSV of ids and labels (names or indices).

    The label is the column `target`, `label` or `ans` where there is one, else the last.

    Raises:
        DataError: an image without a row, a doubled id, or a label that is no class.
    """
    table = read_table(path)
    if len(table.columns) < 2:
        raise DataError(f"{path}: one column only", expected="an id column and a label column")
    ids = [str(value).strip() for value in table.iloc[:, 0]]
    refuse_doubled(ids, path)
    named = [name for name in USUAL_ANSWERS if name in table.columns[1:]]
    column = named[0] if named else table.columns[-1]
    try:
        labels = space.read_column(table[column])
    except DataError as error:
        raise DataError(f"{path}, column {column!r}: {error.problem}", expected=error.expected) from error
    label_of = dict(zip(ids, labels, strict=True))
    found = [next((label_of[key] for key in name_keys(image) if key in label_of), None) for image in images]
    if missing := [image for image, label in zip(images, found, strict=True) if label is None]:
        raise DataError(
            f"{path}: no row for {len(missing)} images: {listing(missing, 5)}",
            expected="a row for each test image, named by path or file name, with or without ending",
        )
    return [label for label in found if label is not None]


def align(ids: Sequence[str], images: Sequence[str], path: Path) -> np.ndarray:
    """For each id of a table the position of its image: (R,) int64.

    Raises:
        DataError: an id is empty, doubled, of no image, or of several.
    """
    ids = [str(name).strip() for name in ids]
    refuse_doubled(ids, path)
    positions: defaultdict[str, list[int]] = defaultdict(list)
    for position, image in enumerate(images):
        for key in name_keys(image):
            positions[key].append(position)
    if missing := [f"{name!r} (row {row})" for row, name in enumerate(ids, start=2) if name not in positions]:
        raise DataError(
            f"{path}: ids without an image: {listing(missing, 5)}",
            expected=f"ids of the {len(images)} images, by path or file name, with or without ending",
            next_step="check --test-location, or leave the rows out",
        )
    taken: dict[int, int] = {}
    for row, name in enumerate(ids, start=2):
        hits = positions[name]
        if len(hits) > 1:
            several = listing([images[hit] for hit in hits], 5)
            raise DataError(f"{path}, row {row}: {name!r} could be {len(hits)} images", found=several)
        if hits[0] in taken:
            raise DataError(f"{path}, rows {taken[hits[0]]} and {row}: both are {images[hits[0]]}")
        taken[hits[0]] = row
    return np.array([positions[name][0] for name in ids], dtype=np.int64)


def _are_indices(placeholders: Sequence[str], space: LabelSpace) -> bool:
    """Whether a template wants class indices: its own answers are whole numbers that are no class names.

    Where labels are made of factors, an empty column wants them too.
    """
    if space.factors and not any(placeholders):
        return True
    if not placeholders or any(not value.removeprefix("-").isdecimal() for value in placeholders):
        return False
    return not all(value in space.names for value in placeholders)
