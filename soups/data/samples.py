"""The samples table of a run: made once, read by every stage."""

import logging
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from soups.data.folders import image_path, listing
from soups.data.groups import add_groups
from soups.data.layouts import COLUMNS, LAYOUTS, samples_elsewhere
from soups.data.settings import DataSettings
from soups.data.split import split_samples
from soups.errors import DataError, UsageError, unknown_name
from soups.labels import LabelSpace
from soups.records import fingerprint, read_table

if TYPE_CHECKING:
    import pandas as pd

logger = logging.getLogger(__name__)


def make_samples(settings: DataSettings) -> "pd.DataFrame":
    """The table of a data set: layout → groups → split → checks.

    Returns:
        Text columns `image` (posix path from the data location), `label` (class name, "" in an unlabelled test set),
        `group`, `split` ("train", "val", "test" or a shift's name), in string order of the images. With
        `val_ratio=None` nothing is "val".

    Raises:
        UsageError: an unknown layout, or settings that contradict each other.
        DataError: a folder, table, class or group that is not as it should be.
    """
    import pandas as pd

    if settings.layout not in LAYOUTS:
        raise unknown_name("layout", settings.layout, LAYOUTS)
    samples = LAYOUTS[settings.layout](settings)
    if settings.test_location is not None:
        samples = pd.concat([samples, samples_elsewhere(settings, _classes(samples))], ignore_index=True)
        samples = samples.sort_values("image", ignore_index=True)
    if settings.skip_bad_images:
        samples = _without_bad_images(samples, Path(settings.data_location or "."))
    samples = split_samples(add_groups(samples, settings), settings.val_ratio, settings.split_seed)
    _check(samples)
    return samples.astype(str)


def read_samples(path: Path) -> "pd.DataFrame":
    """The table that a run wrote.

    Raises:
        DataError: the file is missing or lacks a column.
    """
    samples = read_table(path)
    if missing := [name for name in COLUMNS if name not in samples]:
        raise DataError(
            f"{path}: lacks {listing(missing)}",
            expected=f"the columns {', '.join(COLUMNS)}",
            found=", ".join(map(str, samples.columns)),
        )
    return samples


def fingerprints(samples: "pd.DataFrame") -> tuple[str, str]:
    """Sixteen hexadecimal digits for the data (images, labels, groups) and for who is in which split.

    The order of the rows does not show in them.
    """
    data = sorted(samples[["image", "label", "group"]].itertuples(index=False, name=None))
    split = sorted(samples[["image", "split"]].itertuples(index=False, name=None))
    return fingerprint(data), fingerprint(split)


def label_space(samples: "pd.DataFrame", class_order: Sequence[str] | None = None) -> LabelSpace:
    """The classes of the training rows, in string order or in `class_order`."""
    return LabelSpace.of(samples.loc[samples["split"] == "train", "label"], class_order)


def evaluation_sets(samples: "pd.DataFrame") -> list[str]:
    """The sets that models are evaluated on, in the order of all tables: val, test (where there is one), shifts."""
    present = set(samples["split"])
    return ["val", *(["test"] if "test" in present else []), *sorted(present - {"train", "val", "test", ""})]


def set_rows(samples: "pd.DataFrame", name: str) -> "pd.DataFrame":
    """The rows of one set, index as in the table; for "val" those of `validation_rows`."""
    return validation_rows(samples) if name == "val" else samples[samples["split"] == name]


def validation_rows(samples: "pd.DataFrame") -> "pd.DataFrame":
    """The validation rows; where there are none (`--val-ratio None`), the training rows."""
    rows = samples[samples["split"] == "val"]
    return rows if len(rows) else samples[samples["split"] == "train"]


def oversample(rows: "pd.DataFrame", spec: Sequence[str]) -> np.ndarray:
    """Positions of training rows, those of rare classes repeated.

    Args:
        rows: training rows alone.
        spec: `CLASS=TIMES` entries (each row of CLASS occurs TIMES times; TIMES a whole number), or `auto` alone (each
            class is repeated evenly up to the size of the largest); nothing: each row once.

    Returns:
        (K,) int64, rising, positions in `rows` (not index labels).

    Raises:
        UsageError: an unknown or doubled class, or TIMES that is no whole number above zero.
    """
    assert (rows["split"] == "train").all(), "only training rows may be repeated"
    labels = rows["label"].to_numpy(dtype=str)
    sizes = {name: int(count) for name, count in zip(*np.unique(labels, return_counts=True), strict=True)}
    if tuple(spec) == ("auto",):
        targets = dict.fromkeys(sizes, max(sizes.values(), default=0))
    else:
        targets = {name: times * sizes[name] for name, times in _read_times(spec, list(sizes)).items()}
    repeated = []
    for name, size in sizes.items():
        positions, target = np.flatnonzero(labels == name), targets.get(name, size)
        repeated.append(positions[np.arange(target) * size // target])
    return np.sort(np.concatenate(repeated)).astype(np.int64) if repeated else np.zeros(0, dtype=np.int64)


def _read_times(spec: Sequence[str], classes: list[str]) -> dict[str, int]:
    times: dict[str, int] = {}
    for entry in spec:
        match = re.fullmatch(r"(.+)=([1-9]\d{0,5})", entry)
        if match is None:
            expected = "CLASS=TIMES with a whole number above zero, or auto alone"
            raise UsageError(f"--oversample {entry}", expected=expected)
        if match[1] not in classes:
            raise unknown_name("class in --oversample", match[1], classes)
        if match[1] in times:
            raise UsageError(f"--oversample names {match[1]} twice", expected="each class once")
        times[match[1]] = int(match[2])
    return times


def _classes(samples: "pd.DataFrame") -> set[str]:
    return set(samples.loc[samples["split"].isin(["", "train"]), "label"])


def _without_bad_images(samples: "pd.DataFrame", root: Path) -> "pd.DataFrame":
    """The table without unreadable training images; a set that is only evaluated is left as it is."""
    from soups.data.decode import bad_images

    candidates = samples.loc[samples["split"].isin(["", "train"]), "image"]
    bad = bad_images([image_path(name, root) for name in candidates])
    for path, reason in bad:
        logger.warning("left out: %s: %s", path, reason)
    unreadable = {str(path) for path, _ in bad}
    keep = [str(image_path(name, root)) not in unreadable for name in samples["image"]]
    return samples[keep].reset_index(drop=True)


def _check(samples: "pd.DataFrame") -> None:
    """What every stage relies on, whatever the layout."""
    classes = _classes(samples)
    if len(classes) < 2:
        raise DataError(
            f"the training images have {'only the class ' + classes.pop() if classes else 'no class'}",
            expected="at least two classes",
            next_step="add images of another class",
        )
    for split, rows in samples.groupby("split"):
        labels = set(rows["label"]) - {""}
        if foreign := sorted(labels - classes):
            raise DataError(
                f"{split}: classes that train lacks: {listing(foreign)}",
                expected=f"some of {listing(sorted(classes), 20)}",
                next_step="add them to train, or remove them here",
            )
        if labels and (rows["label"] == "").any():
            bare = rows.loc[rows["label"] == "", "image"].tolist()
            raise DataError(
                f"{split}: {len(bare)} of {len(rows)} images have no label: {listing(bare, 5)}",
                expected="a label for each of them, or for none",
            )
    if doubled := samples.loc[samples["image"].duplicated(), "image"].tolist():
        raise DataError(f"the same image in two sets: {listing(doubled, 5)}", expected="each image once")
