"""Which images are explained: those that the user names, or the telling ones of a set."""

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
from soups.data.layouts.folders import images_below
from soups.data.samples import evaluation_sets
from soups.evaluation.logits import compute_logits
from soups.pipeline.run.images import encode_labels, image_paths
from soups.pipeline.score.context import RunContext, class_positions

if TYPE_CHECKING:
    from soups.models.classifier import Classifier

_LONGEST_NAME = 40
RIGHT, WRONG, UNCERTAIN, NAMED = "surest right", "surest wrong", "most uncertain", "image"


@dataclass(frozen=True)
class PredictedImages:
    """The N images that some are taken from, and what the model says of them."""

    what: str
    """In words, for titles."""
    images: Images
    """At the model's evaluation geometry."""
    labels: np.ndarray
    """(N,) int64 in [0, C); -1 where the truth is not known."""
    softmax: np.ndarray
    """(N, C) float64."""
    groups: np.ndarray
    """(N,) text."""

    @property
    def predictions(self) -> np.ndarray:
        """(N,) int64."""
        return self.probabilities.argmax(axis=1)


@dataclass(frozen=True)
class ExplainedImage:
    """One image that is explained."""

    name: str
    """Distinct, fit for a file's name."""
    why: str
    """What is telling about it."""
    row: int
    """Its position among those shown."""


def images_of_set(context: RunContext, path: Path, name: str, space: LabelSpace) -> PredictedImages:
    """All images of a labelled set.

    Raises:
        UsageError: there is no such set, or it has no labels.
    """
    known = evaluation_sets(context.run.samples)
    if name not in known:
        raise UsageError(f"--on {name}: no such set of images", expected=f"one of {', '.join(known)}")
    labels = context.labels(name, space)
    if not len(labels) or (labels < 0).any():
        raise UsageError(
            f"--on {name}: images without a label, so nobody knows which are right",
            expected="a labelled set",
            next_step="name the images: python scripts/explain.py IMAGE …",
        )
    outputs = context.probabilities(path, [name], space)[name]
    return PredictedImages(
        f"{name} images",
        context.open_set(name, context.run.card_of(path)).images,
        labels,
        outputs,
        context.groups(name),
    )


def images_of_files(
    context: RunContext, path: Path, named: Sequence[str], space: LabelSpace, model: "tuple[Classifier, Card]"
) -> PredictedImages:
    """Images, and all images of folders, that the user names; of the run's own among them the truth is known.

    Raises:
        DataError: something named is not there, a folder has no images, or an image cannot be read.
    """
    files = list(dict.fromkeys(file for name in named for file in _files(Path(name))))
    classifier, card = model
    cache = context.cache.cache
    images = open_images(files, evaluation_geometry(card.preprocessing), cache, context.run.image_cache)
    batch = context.evaluation.eval_batch_size
    logits = compute_logits(classifier, images, card.preprocessing, context.runtime, batch)
    outputs = softmax(logits[:, class_positions(card, space, path, context.run.name)])
    samples = context.run.samples
    labels = encode_labels(context.run.labels_in(samples, space), space)
    known = {file.resolve(): label for file, label in zip(image_paths(samples, context.run), labels, strict=True)}
    truth = np.array([known.get(file.resolve(), -1) for file in files], dtype=np.int64)
    return PredictedImages("the named images", images, truth, outputs, np.array([str(file) for file in files]))


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    found = images_below(path)[0]
    if not found:
        raise DataError(f"{path}: no images in this folder", expected="image files")
    return found


def select_informative(shown: PredictedImages, count: int) -> list[ExplainedImage]:
    """The surest right, the surest wrong and the most uncertain images, each once; equal ones in their own order.

    Uncertain is one whose most probable class leads the second by little.
    """
    top = np.sort(shown.probabilities, axis=1)
    confidences = top[:, -1]
    leads = confidences - (top[:, -2] if top.shape[1] > 1 else 0)
    right = shown.predictions == shown.labels
    surest = np.argsort(-confidences, kind="stable")
    orders = {RIGHT: surest[right[surest]], WRONG: surest[~right[surest]], UNCERTAIN: np.argsort(leads, kind="stable")}
    cases: list[ExplainedImage] = []
    for why, order in orders.items():
        taken = {case.row for case in cases}
        rows = [int(row) for row in order if int(row) not in taken][:count]
        cases += _cases(shown, why, rows)
    return cases


def select_all(shown: PredictedImages) -> list[ExplainedImage]:
    """Every image."""
    return _cases(shown, NAMED, range(len(shown.labels)))


def evenly_spaced_rows(shown: PredictedImages, count: int) -> np.ndarray:
    """Positions of so many images, evenly over all of them, (K,) int64."""
    images = len(shown.labels)
    return np.unique(np.linspace(0, images - 1, min(count, images)).round().astype(np.int64))


def _cases(shown: PredictedImages, why: str, rows: Sequence[int]) -> list[ExplainedImage]:
    short = why.split()[-1]
    stems = [re.sub(r"[^\w.-]+", "_", shown.images.paths[row].stem)[-_LONGEST_NAME:] for row in rows]
    return [
        ExplainedImage(f"{short}{n}_{stem}", why, row) for n, (row, stem) in enumerate(zip(rows, stems, strict=True), 1)
    ]
