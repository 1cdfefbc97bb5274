"""Opens the images of the sets of a run, from the rows of the samples table, for training and evaluation."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from soups.core.errors import DataError
from soups.core.labels import SEPARATOR, LabelSpace
from soups.core.preprocessing import Preprocessing
from soups.data.augment.augment import augmented_geometry, build_augmentation, copies_augmentation
from soups.data.balance import class_weights, oversample, sampling_probabilities
from soups.data.images.cache import open_images
from soups.data.images.decode import find_unreadable, unreadable_error
from soups.data.images.geometry import evaluation_geometry
from soups.data.samples import evaluation_sets, set_rows
from soups.data.settings import CacheSettings
from soups.evaluation.logits import EvaluationSet
from soups.pipeline.run.run import Run
from soups.training.settings import TrainingSettings
from soups.training.training_set import TrainingSet

if TYPE_CHECKING:
    import pandas as pd


def image_paths(rows: "pd.DataFrame", run: Run) -> tuple[Path, ...]:
    """Returns the files of rows of the samples table."""
    root = run.recorded.data.root
    return tuple(root / image for image in rows["image"])


def evaluation_set(
    name: str, rows: "pd.DataFrame", run: Run, preprocessing: Preprocessing, cache: CacheSettings
) -> EvaluationSet:
    """Returns a set of images at a model's evaluation geometry.

    Raises:
        DataError: images cannot be read; the message lists all.
    """
    paths = image_paths(rows, run)
    images = open_images(paths, evaluation_geometry(preprocessing), cache.cache, run.image_cache)
    return EvaluationSet(name, images, encode_labels(rows, run), rows["group"].to_numpy(str), paths)


def encode_labels(rows: "pd.DataFrame", run: Run, space: LabelSpace | None = None) -> np.ndarray:
    """Returns (N,) int64 class indices, -1 for images without a label.

    Args:
        rows: rows of the run's samples table.
        run: the run.
        space: classes of other factors of the same labels; by default the run's classes.

    Raises:
        DataError: the table lacks the factors of that space.
    """
    if space is None or space.names == run.space.names:
        space, labels = run.space, list(rows["label"])
    else:
        missing = [name for name in space.factor_names if name not in rows]
        if missing or not space.factors:
            raise DataError(
                f"run {run.name!r}: its table has no column for {', '.join(missing or space.names)}",
                expected=", ".join(run.space.names),
            )
        levels = rows[list(space.factor_names)].itertuples(index=False, name=None)
        labels = [SEPARATOR.join(each) if all(each) else "" for each in levels]
    known = np.array([label != "" for label in labels], dtype=bool)
    codes = np.full(len(labels), -1, dtype=np.int64)
    codes[known] = space.encode([label for label in labels if label != ""])
    return codes


def training_set(
    run: Run, settings: TrainingSettings, preprocessing: Preprocessing, cache: CacheSettings
) -> TrainingSet:
    """Returns the training images at the training geometry, with the fine-tune's own oversampling.

    Raises:
        DataError: images cannot be read; the message lists all.
        UsageError: oversampling or class weights name an unknown class.
    """
    rows = set_rows(run.samples, "train")
    positions = oversample(rows, settings.oversample) if settings.oversample else np.arange(len(rows))
    labels = run.space.encode(rows["label"])
    weights = class_weights(settings.class_weights, labels[positions], run.space) if settings.class_weights else None
    geometry = augmented_geometry(preprocessing, settings.augmentation, cache.cache_size)
    images = open_images(image_paths(rows, run), geometry, cache.cache, run.image_cache)
    augmentation = build_augmentation(preprocessing, settings.augmentation, settings.aug)
    return TrainingSet(
        images,
        labels,
        positions,
        augmentation,
        copies=copies_augmentation(preprocessing, augmentation, settings.oversample_augment, settings.aug),
        chances=sampling_probabilities(labels) if settings.sampler == "balanced" else None,
        class_weights=weights,
    )


def prepare_images(run: Run, preprocessing: Preprocessing, cache: CacheSettings, augmentation: str) -> None:
    """Prepare the images of every set, so that training begins only if all of them can be read.

    Args:
        run: a run with its table.
        preprocessing: preprocessing of the models to train.
        cache: settings of the image cache.
        augmentation: a kind of augmentation; decides the training geometry.

    Raises:
        DataError: images cannot be read; the message lists all.
    """
    samples = run.samples
    try:
        training_set(run, TrainingSettings(augmentation=augmentation), preprocessing, cache)
        for name in evaluation_sets(samples):
            evaluation_set(name, set_rows(samples, name), run, preprocessing, cache)
    except DataError:
        if bad := find_unreadable(image_paths(samples, run)):
            raise unreadable_error(bad) from None
        raise
