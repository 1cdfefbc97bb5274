"""The samples table of a run, from the data settings or from the run's file, and the class list and sets in it."""

import logging
import shlex
import unicodedata
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from soups.core.errors import DataError, UsageError
from soups.core.labels import LabelSpace
from soups.core.notes import add_note
from soups.data.groups import add_groups
from soups.data.layouts.concat import SOURCE, concat_samples
from soups.data.layouts.folders import COLUMNS, check_known_classes, class_key
from soups.data.layouts.image_files import format_list, table_name
from soups.data.layouts.layouts import find_layout, separate_test_samples
from soups.data.layouts.locate import AUTO, resolve_locations
from soups.data.layouts.schema import is_schema, read_schema
from soups.data.layouts.tables import locate_table
from soups.data.limit import select_limited_rows
from soups.data.relabel import relabel
from soups.data.settings import DataSettings
from soups.data.split import split_samples
from soups.files.atomic import fingerprint
from soups.files.tables import read_table

if TYPE_CHECKING:
    import pandas as pd

logger = logging.getLogger(__name__)


def make_samples(settings: DataSettings) -> "pd.DataFrame":
    """Build the samples table of a data set: layout → groups → split → limit → relabel → target → checks.

    The split and the limit use all factors and the original labels, so that runs on some of the factors and runs with
    label corrections have the same split.

    Args:
        settings: data settings. Pass the result of `resolve_locations`, so that a run records the locations it read.

    Returns:
        Text columns `image` (posix path relative to the data location), `label` (class name, "" in an unlabelled test
        set), `group`, `split` ("train", "val", "test" or the name of a shift set), sorted by `image`. With
        `val_ratio=None` no row is "val". If labels are made of factors, a column of levels for each factor; with
        `relabel`, `label_before` and `corrected_by`; with several data locations `source`, the image's location.

    Raises:
        UsageError: a layout or factor is unknown, or settings contradict each other.
        DataError: a folder, table, class, group or correction is invalid.
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
    within_limit = np.ones(len(samples), dtype=bool)
    if settings.limit is not None:
        within_limit = select_limited_rows(samples, settings.limit, settings.split_seed)
    if settings.relabel is not None:
        factors = joint.factors if joint is not None else ()
        classes = joint.names if joint is not None else sorted(_training_classes(samples))
        samples = relabel(samples, locate_table(settings.relabel, settings.root), factors, classes)
    # Applied after `relabel`, because corrections may name images outside the limit.
    samples = samples[within_limit].reset_index(drop=True)
    if joint is not None and target is not None:
        samples["label"] = project_labels(samples["label"], joint, target)
    _check_samples(samples, target)
    if target is None:
        _check_spellings(samples, settings.class_order or ())
    return samples.astype(str)


def declared_space(settings: DataSettings) -> LabelSpace | None:
    """Return all classes of a layout with declared factors; None if the classes are those of the training rows.

    Raises:
        UsageError: the layout's schema does not exist, or the age bands do not fit it.
    """
    if not is_schema(settings.layout):
        return None
    return LabelSpace.product(read_schema(settings.layout, settings.age_bands).label_factors)


def target_space(settings: DataSettings, joint: LabelSpace | None) -> LabelSpace | None:
    """Return the classes to train on: those of `--target`, else all declared classes; None if none are declared.

    Raises:
        UsageError: `--target` is set for labels without declared factors, or names an unknown factor.
    """
    if settings.target_factors is None:
        return joint
    if joint is None:
        raise UsageError(
            f"--target {settings.target}: labels of the layout {settings.layout} are not made of factors",
            expected="a layout that declares factors, such as profile",
            next_step="remove --target",
        )
    return joint.part(settings.target_factors)


def project_labels(labels: Iterable[str], joint: LabelSpace, target: LabelSpace) -> list[str]:
    """Map labels of the joint space to labels of some of its factors; "" stays "".

    Raises:
        DataError: a label is not a class of the joint space.
    """
    part_of = dict(zip(joint.names, target.decode(joint.projection(target)), strict=True)) | {"": ""}
    labels = list(labels)
    if unknown := sorted(set(labels) - set(part_of)):
        raise DataError(f"unknown labels: {format_list(unknown, 5)}", expected=f"one of {', '.join(joint.names)}")
    return [part_of[label] for label in labels]


def read_samples(path: Path) -> "pd.DataFrame":
    """Read the samples table of a run.

    Raises:
        DataError: the file or a column is missing.
    """
    samples = read_table(path)
    if missing := [name for name in COLUMNS if name not in samples]:
        raise DataError(
            f"{path}: columns are missing: {format_list(missing)}",
            expected=f"the columns {', '.join(COLUMNS)}",
            found=", ".join(map(str, samples.columns)),
        )
    return samples


def data_fingerprints(samples: "pd.DataFrame") -> tuple[str, str]:
    """Return two fingerprints of 16 hexadecimal digits: of images, labels and groups, and of images and splits.

    Neither depends on the order of the rows.
    """
    data = sorted(samples[["image", "label", "group"]].itertuples(index=False, name=None))
    split = sorted(samples[["image", "split"]].itertuples(index=False, name=None))
    return fingerprint(data), fingerprint(split)


def label_space(samples: "pd.DataFrame", class_order: Sequence[str] | None = None) -> LabelSpace:
    """Return the classes of the training rows, sorted as strings or in `class_order`."""
    labels = set(samples.loc[samples["split"] == "train", "label"].unique())
    if class_order is not None:  # Labels are in NFC, except those of older runs.
        class_order = [name if name in labels else unicodedata.normalize("NFC", name) for name in class_order]
    return LabelSpace.of(labels, class_order)


def evaluation_sets(samples: "pd.DataFrame") -> list[str]:
    """Return the names of the evaluation sets, in the column order of all tables: val, test (if present), shifts."""
    present = set(samples["split"].unique())
    return ["val", *(["test"] if "test" in present else []), *sorted(present - {"train", "val", "test", ""})]


def set_rows(samples: "pd.DataFrame", name: str) -> "pd.DataFrame":
    """Return the rows of one set with their index in the table.

    Without validation rows (`--val-ratio None`), "val" is the training set.
    """
    if name == "val" and not (samples["split"] == "val").any():
        name = "train"
    return samples[samples["split"] == name]


def _training_classes(samples: "pd.DataFrame") -> set[str]:
    return set(samples.loc[samples["split"].isin(["", "train"]), "label"])


def _drop_unreadable(samples: "pd.DataFrame", root: Path) -> "pd.DataFrame":
    """Remove unreadable training images, with a warning for each; evaluation sets do not change."""
    from soups.data.images.decode import find_unreadable

    candidates = samples.loc[samples["split"].isin(["", "train"]), "image"]
    bad = dict(find_unreadable([root / name for name in candidates]))
    for path, reason in bad.items():
        add_note("left out", f"skipped: {path}: {reason}", warning=True)
    return samples[[root / name not in bad for name in samples["image"]]].reset_index(drop=True)


def _check_samples(samples: "pd.DataFrame", space: LabelSpace | None) -> None:
    """Check what every stage relies on: at least two classes, known labels, complete labels, unique images.

    Args:
        samples: the complete table.
        space: the declared classes; None if none are declared.

    Raises:
        DataError: one of these does not hold.
    """
    classes = _training_classes(samples)
    if space is not None and (absent := [name for name in space.names if name not in classes]):
        logger.warning("no training images of: %s", format_list(absent, 20))
    if len(classes) < 2:
        raise DataError(
            f"training images: {'only the class ' + classes.pop() if classes else 'no labels'}",
            expected="at least two classes",
            next_step="add images of another class",
        )
    for split, rows in samples.groupby("split"):
        labels = set(rows["label"]) - {""}
        check_known_classes(labels, classes if space is None else space.names, str(split))
        if labels and (rows["label"] == "").any():
            unlabelled = rows.loc[rows["label"] == "", "image"].tolist()
            raise DataError(
                f"{split}: {len(unlabelled)} of {len(rows)} images have no label: {format_list(unlabelled, 5)}",
                expected="labels for all images of the set, or for none",
            )
    if doubled := samples.loc[samples["image"].duplicated(), "image"].tolist():
        raise DataError(f"the same image in two sets: {format_list(doubled, 5)}", expected="each image once")


def _check_spellings(samples: "pd.DataFrame", declared: Collection[str]) -> None:
    """Check that no two classes are spellings of one: that they differ in more than case, blanks or leading zeros.

    Single characters are classes of letters, and classes that the user declared are kept as they are.

    Raises:
        DataError: some are not; the next step corrects the rarer spellings.
    """
    counts = samples.loc[samples["label"] != "", "label"].value_counts()
    spellings: dict[str, list[str]] = {}
    for name in counts.index:  # The most frequent first.
        spellings.setdefault(class_key(name), []).append(name)
    several = [names for names in spellings.values() if len(names) > 1 and not set(names) <= set(declared)]
    if several and all(len(name) == 1 for names in several for name in names):
        shown = format_list([" and ".join(names) for names in several], 5)
        add_note("read as", f"classes that differ only in case are different classes: {shown}")
    elif several:
        wrong = [(name, names[0]) for names in several for name in names[1:]]
        lines = ["match,factor,from,to", *(f'*,,"{name}","{right}"' for name, right in wrong)]
        command = shlex.join(["printf", "%s\\n", *lines]) + " > corrections.csv"
        raise DataError(
            "classes that differ only in case, blanks or leading zeros: "
            + format_list([" and ".join(f"{name!r} ({counts[name]})" for name in names) for names in several], 5),
            expected="one spelling of each class",
            next_step=f"if they are one class: {command}, and add --relabel corrections.csv; if not, name all classes "
            "with --class-order",
        )
