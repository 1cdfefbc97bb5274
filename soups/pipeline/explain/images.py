"""The model to explain, and its images: named by the user, or the most informative ones of a set."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from soups.checkpoints.card import Card
from soups.core.errors import DataError, UsageError
from soups.core.labels import LabelSpace
from soups.core.scores import softmax
from soups.data.images.cache import Images, open_images
from soups.data.images.geometry import evaluation_geometry
from soups.data.layouts.image_files import images_below
from soups.data.samples import evaluation_sets
from soups.evaluation.logits import compute_logits
from soups.pipeline.run.images import encode_labels, image_paths
from soups.pipeline.run.model_files import load_model
from soups.pipeline.score.context import RunContext, class_positions
from soups.runtime.devices import limit_threads

if TYPE_CHECKING:
    from soups.models.classifier import Classifier

_LONGEST_NAME = 40
RIGHT, WRONG, UNCERTAIN, NAMED = "surest right", "surest wrong", "most uncertain", "image"


@dataclass(frozen=True)
class ExplainedModel:
    """A model to explain, on the device of the command, with the mapping of its classes."""

    classifier: "Classifier"
    card: Card
    space: LabelSpace
    order: np.ndarray
    """(C,) int64, the index of each class of `space` among the logits."""

    @classmethod
    def load(cls, context: RunContext, path: Path, space: LabelSpace) -> "ExplainedModel":
        """Return a model of a run.

        Raises:
            DataError: The file is damaged, or the model has other classes.
        """
        limit_threads(context.runtime.threads)
        classifier, card = load_model(context.run, path)
        order = class_positions(card, space, path, context.run.name)
        return cls(classifier.to(context.runtime.device), card, space, order)

    def probabilities(self, images: Images, context: RunContext) -> np.ndarray:
        """Return (N, C) float64 probabilities of images, in the order of `space`."""
        runtime, batch = context.runtime, context.evaluation.eval_batch_size
        return softmax(compute_logits(self.classifier, images, self.card.preprocessing, runtime, batch)[:, self.order])


@dataclass(frozen=True)
class PredictedImages:
    """N candidate images with the model's predictions."""

    description: str
    """Description for titles."""
    images: Images
    """The images at the model's evaluation geometry."""
    labels: np.ndarray
    """(N,) int64 in [0, C); -1 where the label is unknown."""
    probabilities: np.ndarray
    """(N, C) float64 in [0, 1]."""
    groups: np.ndarray
    """(N,) str, the group of each image."""

    @property
    def predictions(self) -> np.ndarray:
        """(N,) int64, the predicted class of each image."""
        return self.probabilities.argmax(axis=1)


@dataclass(frozen=True)
class ExplainedImage:
    """One image to explain."""

    name: str
    """A unique name that is safe as a file name."""
    why: str
    """The reason why the image was selected."""
    row: int
    """The image's row number in `PredictedImages`."""


def images_of_set(context: RunContext, path: Path, name: str, space: LabelSpace) -> PredictedImages:
    """Return all images of a labelled set with their predictions.

    Raises:
        UsageError: The set does not exist or has images without labels.
    """
    known = evaluation_sets(context.run.samples)
    if name not in known:
        raise UsageError(f"--on {name}: no such set of images", expected=f"one of {', '.join(known)}")
    labels = context.labels(name, space)
    if not len(labels) or (labels < 0).any():
        raise UsageError(
            f"--on {name}: images without a label",
            expected="a labelled set",
            next_step="name images instead: python scripts/explain.py IMAGE …",
        )
    outputs = context.probabilities(path, [name], space)[name]
    images = context.open_set(name, context.run.card_of(path)).images
    return PredictedImages(f"{name} images", images, labels, outputs, context.groups(name))


def images_of_files(context: RunContext, model: ExplainedModel, names: Sequence[str]) -> PredictedImages:
    """Return the named images, and all images of named folders, with their predictions.

    Labels are known only for images of the run itself.

    Raises:
        DataError: A file or folder does not exist, a folder has no images, or an image cannot be read.
    """
    files = list(dict.fromkeys(file for name in names for file in _files_in(Path(name))))
    run, geometry = context.run, evaluation_geometry(model.card.preprocessing)
    images = open_images(files, geometry, context.cache.cache, run.image_cache)
    outputs = model.probabilities(images, context)
    labels = encode_labels(run.samples, run, model.space)
    known = {file.resolve(): label for file, label in zip(image_paths(run.samples, run), labels, strict=True)}
    truth = np.array([known.get(file.resolve(), -1) for file in files], dtype=np.int64)
    return PredictedImages("the named images", images, truth, outputs, np.array([str(file) for file in files]))


def _files_in(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    files = images_below(path)[0]
    if not files:
        raise DataError(f"{path}: no images in this folder", expected="image files")
    return files


def select_images(predicted: PredictedImages, count: int | None) -> list[ExplainedImage]:
    """Return all images (`count=None`), or up to `count` each: surest right, surest wrong, most uncertain.

    No image is selected twice; ties are broken by row number. Uncertainty is measured by the margin between the two
    most probable classes (small margin: uncertain).
    """
    if count is None:
        return _explained_images(predicted, NAMED, range(len(predicted.labels)))
    ascending = np.sort(predicted.probabilities, axis=1)
    confidences = ascending[:, -1]
    margins = confidences - (ascending[:, -2] if ascending.shape[1] > 1 else 0)
    right = predicted.predictions == predicted.labels
    surest = np.argsort(-confidences, kind="stable")
    rankings = {
        RIGHT: surest[right[surest]],
        WRONG: surest[~right[surest]],
        UNCERTAIN: np.argsort(margins, kind="stable"),
    }
    selected: list[ExplainedImage] = []
    for why, order in rankings.items():
        unselected = order[~np.isin(order, [image.row for image in selected])]
        selected += _explained_images(predicted, why, unselected[:count].tolist())
    return selected


def _explained_images(predicted: PredictedImages, why: str, rows: Sequence[int]) -> list[ExplainedImage]:
    stems = [re.sub(r"[^\w.-]+", "_", predicted.images.paths[row].stem)[-_LONGEST_NAME:] for row in rows]
    return [
        ExplainedImage(f"{why.split()[-1]}{number}_{stem}", why, row)
        for number, (row, stem) in enumerate(zip(rows, stems, strict=True), 1)
    ]
