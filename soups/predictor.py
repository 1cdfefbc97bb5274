"""`soups.load`: a model from its file alone, ready to predict."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from soups.checkpoints import Card
from soups.data.cache import open_images
from soups.data.decode import decode
from soups.data.geometry import apply, evaluation_geometry
from soups.errors import DataError, unknown_name
from soups.evaluation.logits import batch_logits, compute_logits, evaluating
from soups.metrics import probabilities
from soups.models.load import load_classifier
from soups.runtime import Runtime, RuntimeSettings, cache_dir, resolve

if TYPE_CHECKING:
    import pandas as pd
    from PIL.Image import Image as PILImage

    from soups.models.classifier import Classifier


class Predictor:
    """A model, soup or not, with everything that its card says: classes, preprocessing, architecture."""

    def __init__(self, classifier: "Classifier", card: Card, runtime: Runtime, batch_size: int) -> None:
        self.classifier = classifier.to(runtime.device)
        self.card = card
        self.space = card.space
        self.runtime = runtime
        self.batch_size = batch_size

    @property
    def device(self) -> str:
        """Where the model is."""
        return self.runtime.device

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names in the order of the columns of `predict_proba`."""
        return self.space.names

    def to(self, device: str) -> "Predictor":
        """The same model on another device."""
        return Predictor(self.classifier, self.card, _runtime(self.card, device), self.batch_size)

    def predict_proba(self, paths: "Sequence[str | Path]") -> np.ndarray:
        """Probabilities of the classes for image files.

        Args:
            paths: N image files of any mode and size.

        Returns:
            (N, C) float32, rows summing to one, columns in the order of `classes`.

        Raises:
            DataError: images that cannot be read, all of them listed.
        """
        if not len(paths):
            return np.zeros((0, len(self.space)), dtype=np.float32)
        files = [Path(path) for path in paths]
        images = open_images(files, evaluation_geometry(self.card.preprocessing), "off", cache_dir() / "images")
        logits = compute_logits(self.classifier, images, self.card.preprocessing, self.runtime, self.batch_size)
        return probabilities(logits).astype(np.float32)

    def predict(self, frame: "pd.DataFrame") -> "pd.DataFrame":
        """The same rows with two more columns: `target` (class name) and `confidence` (its probability).

        Args:
            frame: has a column `image` with paths of image files.

        Raises:
            DataError: there is no such column, or images that cannot be read, all of them listed.
        """
        if "image" not in frame.columns:
            columns = ", ".join(map(str, frame.columns))
            raise DataError("predict: the table lacks a column", expected="image", found=columns)
        confidences = self.predict_proba(frame["image"].tolist())
        result = frame.copy()
        result["target"] = self.space.decode(confidences.argmax(axis=1)) if len(frame) else []
        result["confidence"] = confidences.max(axis=1) if len(frame) else []
        return result

    def explain(
        self, image: "str | Path | PILImage | np.ndarray", method: str = "gradcam++", target: str | None = None
    ) -> np.ndarray:
        """Where in an image the evidence for a class is.

        Args:
            image: a file, a Pillow image, or (H, W, 3) uint8 pixels, RGB.
            method: `cam`, `gradcam`, `gradcam++`, `layercam`, `rollout`, `relevance`; or `auto`: relevance where the
                network's attention can be read, as in ViT, gradcam++ elsewhere.
            target: the class; None: the predicted one.

        Returns:
            (S, S) float32 in [0, 1] with S = `card.preprocessing.size`, in the frame of the model's input: the image
            resized, and its middle cut out, as the card says (`soups.data.geometry.seen_box` tells which part that is).
            All 0 where nothing speaks for the class.

        Raises:
            UsageError: an unknown method or class, or a method that does not suit the network.
            DataError: an image that cannot be read.
        """
        from torch import from_numpy

        from soups.explain.methods import chosen_method, explain
        from soups.explain.settings import MapSettings, check_method

        check_method(method)
        if target is not None and target not in self.classes:
            raise unknown_name("class", target, self.classes)
        preprocessing = self.card.preprocessing
        pixels = apply(_pixels(image), evaluation_geometry(preprocessing))[None]
        with evaluating(self.classifier, self.runtime):
            logits = batch_logits(self.classifier, from_numpy(pixels), preprocessing, self.runtime)
        label = int(logits.argmax()) if target is None else self.classes.index(target)
        method = chosen_method(self.classifier, pixels, preprocessing, MapSettings(method=method))
        return explain(self.classifier, pixels, np.array([label]), preprocessing, method)[0]


def load(path: str | Path, device: str = "auto", batch_size: int = 64) -> Predictor:
    """Load a checkpoint that soups wrote.

    Args:
        path: the `.safetensors` file.
        device: `auto`, `cpu`, or an accelerator's name.
        batch_size: images in one forward pass.

    Raises:
        DataError: the file is missing, damaged or has no card.
        EnvironmentFailure: the device does not exist here.
    """
    classifier, card = load_classifier(Path(path))
    return Predictor(classifier, card, _runtime(card, device), batch_size)


def _pixels(image: "str | Path | PILImage | np.ndarray") -> np.ndarray:
    """(H, W, 3) uint8, RGB.

    Raises:
        DataError: a file that cannot be read, or an array of another kind.
    """
    if isinstance(image, str | Path):
        return decode(Path(image))
    pixels = image if isinstance(image, np.ndarray) else np.asarray(image.convert("RGB"))
    if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8:
        found = f"{pixels.shape} {pixels.dtype}"
        raise DataError("image: an array of another kind", expected="(H, W, 3) uint8, RGB", found=found)
    return pixels


def _runtime(card: Card, device: str) -> Runtime:
    """At the precision that the model was trained and scored with, where its card says."""
    return resolve(RuntimeSettings(device=device, precision=card.training.get("precision", "auto")))
