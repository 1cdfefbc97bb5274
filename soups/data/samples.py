"""The samples table of a run: made once, read by every stage."""

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from soups.core.errors import DataError, UsageError
from soups.core.labels import LabelSpace
from soups.data.groups import add_groups
from soups.data.layouts.concat import SOURCE, concat_samples
from soups.data.layouts.folders import format_list, image_path, table_name
from soups.data.layouts.layouts import COLUMNS, find_layout, separate_test_samples
from soups.data.layouts.locate import AUTO, resolve_locations
from soups.data.layouts.schema import is_schema, read_schema
from soups.data.layouts.tables import locate_table
from soups.data.limit import select_limited_rows
from soups.data.relabel import relabel
from soups.data.settings import DataSettings
from soups.data.split import split_samples
from soups.files.atomic import fingerprint, read_table

if TYPE_CHECKING:
    import pandas as pd

logger = logging.getLogger(__name__)


def make_samples(settings: DataSettings) -> "pd.DataFrame":
    """The table of a data set: layout → groups → split → limit → relabel → target → checks.

    The split, and what a limit leaves, is decided on all factors and on the labels as they are given, so that runs on
    some of the factors, and runs with corrections, have the same one.

    Args:
        settings: best `resolve_locations` before, so that what is recorded is what was read.

    Returns:
        Text columns `image` (posix path from the data location), `label` (class name, "" in an unlabelled test set),
        `group`, `split` ("train", "val", "test" or a shift's name), in string order of the images. With
        `val_ratio=None` nothing is "val". Where labels are made of factors, also the level of each; with `relabel`,
        `label_before` and `corrected_by`; with several data locations `source`, the one that has the image.

    Raises:
        UsageError: an unknown layout or factor, or settings that contradict each other.
        DataError: a folder, table, class, group or correction that is not as it should be.
    """
    import pandas as pd

    if settings.layout == AUTO:
        settings = resolve_locations(settings)
    samples = concat_samples(settings) if len(settings.locations) > 1 else find_layout(settings)(settings)
    joint = declared_space(settings)
    target = target_space(settings, joint)
    if settings.test_location is not None:
        known = set(joint.names) if joint is not None else _training_classes(samples)
        test = separate_test_samples(settings, known)
        if SOURCE in samples:
            test[SOURCE] = table_name(Path(settings.test_location), settings.root)
        samples = pd.concat([samples, test], ignore_index=True).fillna("")
        samples = samples.sort_values("image", ignore_index=True)
    if settings.skip_bad_images:
        samples = _drop_unreadable(samples, settings.root)
    samples = split_samples(add_groups(samples, settings), settings.val_ratio, settings.split_seed)
    kept = select_limited_rows(samples, settings.limit, settings.split_seed) if settings.limit is not None else None
    if settings.relabel is not None:
        factors = joint.factors if joint is not None else ()
        classes = joint.names if joint is not None else sorted(_training_classes(samples))
        samples = relabel(samples, locate_table(settings.relabel, settings.root), factors, classes)
    if kept is not None:  # Corrections may be of images that the limit leaves out.
        samples = samples[kept].reset_index(drop=True)
    if joint is not None and target is not None:
        samples["label"] = project_labels(samples["label"], joint, target)
    _check_samples(samples, target)
    return samples.astype(str)


def declared_space(settings: DataSettings) -> LabelSpace | None:
    """All classes of a layout whose labels are made of factors; None where classes are those that occur.

    Raises:
        UsageError: the layout's description is not there, or bands that do not fit it.
    """
    if not is_schema(settings.layout):
        return None
    return LabelSpace.product(read_schema(settings.layout, settings.age_bands).label_factors)


def target_space(settings: DataSettings, joint: LabelSpace | None) -> LabelSpace | None:
    """The classes that are trained on: those of `--target`, else all declared ones; None where none are declared.

    Raises:
        UsageError: labels that are not made of factors, or an unknown factor.
    """
    if settings.target_factors is None:
        return joint
    if joint is None:
        raise UsageError(
            f"--target {settings.target}: labels of the layout {settings.layout} are not made of factors",
            expected="a layout whose description names factors, such as profile",
            next_step="leave --target out",
        )
    return joint.part(settings.target_factors)


def project_labels(labels: Iterable[str], joint: LabelSpace, target: LabelSpace) -> list[str]:
    """Labels of the joint space as labels of some of its factors; "" stays "".

    Raises:
        DataError: a label that the joint space does not have.
    """
    part_of = dict(zip(joint.names, target.decode(joint.projection(target)), strict=True)) | {"": ""}
    labels = list(labels)
    if unknown := sorted(set(labels) - set(part_of)):
        raise DataError(f"labels of no class: {format_list(unknown, 5)}", expected=f"one of {', '.join(joint.names)}")
    return [part_of[label] for label in labels]


def read_samples(path: Path) -> "pd.DataFrame":
    """The table that a run wrote.

    Raises:
        DataError: the file is missing or lacks a column.
    """
    samples = read_table(path)
    if missing := [name for name in COLUMNS if name not in samples]:
        raise DataError(
            f"{path}: lacks {format_list(missing)}",
            expected=f"the columns {', '.join(COLUMNS)}",
            found=", ".join(map(str, samples.columns)),
        )
    return samples


def data_fingerprints(samples: "pd.DataFrame") -> tuple[str, str]:
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


def _training_classes(samples: "pd.DataFrame") -> set[str]:
    return set(samples.loc[samples["split"].isin(["", "train"]), "label"])


def _drop_unreadable(samples: "pd.DataFrame", root: Path) -> "pd.DataFrame":
    """The table without unreadable training images; a set that is only evaluated is left as it is."""
    from soups.data.images.decode import find_unreadable

    candidates = samples.loc[samples["split"].isin(["", "train"]), "image"]
    bad = find_unreadable([image_path(name, root) for name in candidates])
    for path, reason in bad:
        logger.warning("left out: %s: %s", path, reason)
    unreadable = {str(path) for path, _ in bad}
    keep = [str(image_path(name, root)) not in unreadable for name in samples["image"]]
    return samples[keep].reset_index(drop=True)


def _check_samples(samples: "pd.DataFrame", space: LabelSpace | None) -> None:
    """What every stage relies on, whatever the layout; `space` has the declared classes, where they are declared."""
    classes = _training_classes(samples)
    if space is not None and (absent := [name for name in space.names if name not in classes]):
        logger.warning("no training images of: %s", format_list(absent, 20))
    if len(classes) < 2:
        raise DataError(
            f"the training images have {'only the class ' + classes.pop() if classes else 'no class'}",
            expected="at least two classes",
            next_step="add images of another class",
        )
    for split, rows in samples.groupby("split"):
        labels = set(rows["label"]) - {""}
        if foreign := sorted(labels - (classes if space is None else set(space.names))):
            raise DataError(
                f"{split}: classes that train lacks: {format_list(foreign)}",
                expected=f"some of {format_list(sorted(classes), 20)}",
                next_step="add them to train, or remove them here",
            )
        if labels and (rows["label"] == "").any():
            bare = rows.loc[rows["label"] == "", "image"].tolist()
            raise DataError(
                f"{split}: {len(bare)} of {len(rows)} images have no label: {format_list(bare, 5)}",
                expected="a label for each of them, or for none",
            )
    if doubled := samples.loc[samples["image"].duplicated(), "image"].tolist():
        raise DataError(f"the same image in two sets: {format_list(doubled, 5)}", expected="each image once")
