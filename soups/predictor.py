"""`soups.load`: a model from its file, its folder or the hub, ready to predict."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from soups.checkpoints.card import Card
from soups.core.errors import DataError, unknown_name
from soups.core.plugins import load_plugins
from soups.core.scores import softmax
from soups.data.images.cache import Images
from soups.data.images.geometry import evaluation_geometry, resize_and_crop
from soups.data.images.inputs import as_list, open_inputs, read_input
from soups.evaluation.logits import batch_logits, compute_features, compute_logits, inference_mode_at
from soups.models.hub_folder import load_anywhere
from soups.runtime.devices import Runtime, RuntimeSettings, cache_dir, resolve

if TYPE_CHECKING:
    import pandas as pd

    from soups.data.images.inputs import InputImage
    from soups.models.classifier import Classifier


class Predictor:
    """A model, soup or not, with everything that its card says: classes, preprocessing, architecture.

    Wherever it takes images, it takes one or several: paths, `PIL.Image`s of any mode, arrays (H, W, 3) uint8 (RGB in
    [0, 255]) and batches of them (N, H, W, 3), in any mixture. One image is a batch of one. A file, the picture that
    Pillow opens from it and that picture's pixels give the same bits.
    """

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
        """Move the model to another device, as torch's modules do; returns itself.

        Args:
            device: `auto`, `cpu`, or an accelerator's name.

        Raises:
            EnvironmentFailure: the device does not exist here; the model stays where it is.
        """
        runtime = _runtime(self.card, device)
        self.classifier, self.runtime = self.classifier.to(runtime.device), runtime
        return self

    def predict_proba(self, images: "InputImage | Iterable[InputImage]") -> np.ndarray:
        """Probabilities of the classes.

        Args:
            images: N images, of any size.

        Returns:
            (N, C) float32, rows summing to one, columns in the order of `classes`; of one image (1, C).

        Raises:
            DataError: images that cannot be read; names them.
        """
        opened = self._open(images)
        if not len(opened):
            return np.zeros((0, len(self.space)), dtype=np.float32)
        logits = compute_logits(self.classifier, opened, self.card.preprocessing, self.runtime, self.batch_size)
        return softmax(logits).astype(np.float32)

    def features(self, images: "InputImage | Iterable[InputImage]") -> np.ndarray:
        """What the model sees in images: the features that its head turns into logits.

        Args:
            images: N images, of any size.

        Returns:
            (N, D) float32; those of CLIP's towers have length 1. Of one image (1, D).

        Raises:
            DataError: images that cannot be read; names them.
        """
        opened = self._open(images)
        if not len(opened):
            return np.zeros((0, self.classifier.head.in_features), dtype=np.float32)
        return compute_features(self.classifier, opened, self.card.preprocessing, self.runtime, self.batch_size)

    def predict(self, frame: "pd.DataFrame") -> "pd.DataFrame":
        """The same rows with two more columns: `target` (class name) and `confidence` (its probability).

        Args:
            frame: has a column `image` with an image in each row: its path, or the image itself.

        Raises:
            DataError: there is no such column, or images that cannot be read; names them.
        """
        if "image" not in frame.columns:
            columns = ", ".join(map(str, frame.columns))
            raise DataError("predict: the table lacks a column", expected="image", found=columns)
        images = as_list(frame["image"].tolist())
        if len(images) != len(frame):
            found = f"{len(images)} images in {len(frame)} rows"
            raise DataError("predict: a batch in one row of the table", expected="an image in each row", found=found)
        confidences = self.predict_proba(images)
        result = frame.copy()
        result["target"] = self.space.decode(confidences.argmax(axis=1)) if len(frame) else []
        result["confidence"] = confidences.max(axis=1) if len(frame) else []
        return result

    def explain(self, image: "InputImage", method: str = "gradcam++", target: str | None = None) -> np.ndarray:
        """Where in an image the evidence for a class is.

        Args:
            image: a path, a `PIL.Image` of any mode, or an array (H, W, 3) uint8, RGB.
            method: `cam`, `gradcam`, `gradcam++`, `layercam`, `rollout`, `relevance`; or `auto`: relevance where the
                network's attention can be read, as in ViT, gradcam++ elsewhere.
            target: the class; None: the predicted one.

        Returns:
            (S, S) float32 in [0, 1] with S = `card.preprocessing.size`, in the frame of the model's input: the image
            resized, and its middle cut out, as the card says (`soups.data.images.geometry.visible_box`: which part).
            All 0 where nothing speaks for the class.

        Raises:
            UsageError: an unknown method or class, or a method that does not suit the network.
            DataError: an image that cannot be read.
        """
        from torch import from_numpy

        from soups.explain.methods import explain, resolve_method
        from soups.explain.settings import MapSettings, check_method

        check_method(method)
        if target is not None and target not in self.classes:
            raise unknown_name("class", target, self.classes)
        preprocessing = self.card.preprocessing
        pixels = resize_and_crop(read_input(image), evaluation_geometry(preprocessing))[None]
        with inference_mode_at(self.classifier, self.runtime):
            logits = batch_logits(self.classifier, from_numpy(pixels), preprocessing, self.runtime)
        label = int(logits.argmax()) if target is None else self.classes.index(target)
        method = resolve_method(self.classifier, pixels, preprocessing, MapSettings(method=method))
        return explain(self.classifier, pixels, np.array([label]), preprocessing, method)[0]

    def _open(self, images: "InputImage | Iterable[InputImage]") -> Images:
        return open_inputs(images, evaluation_geometry(self.card.preprocessing), cache_dir() / "images")


def load(path_or_hub_name: str | Path, device: str = "auto", batch_size: int = 64) -> Predictor:
    """Load a model that soups wrote, or one of timm's.

    Args:
        path_or_hub_name: a `.safetensors` file; a folder as `scripts/push_to_hub.py` writes it, or as timm does
            (`local-dir:DIR` or just `DIR`); or `hf-hub:org/name`, such a folder on the Hugging Face hub.
        device: `auto`, `cpu`, or an accelerator's name.
        batch_size: images in one forward pass.

    Raises:
        DataError: there is neither file nor folder, it is damaged, or it does not say what it holds.
        EnvironmentFailure: the device does not exist here, or the hub cannot be reached.
    """
    load_plugins()  # A plugin may add the family of the backbone.
    classifier, card = load_anywhere(str(path_or_hub_name))
    return Predictor(classifier, card, _runtime(card, device), batch_size)


def _runtime(card: Card, device: str) -> Runtime:
    """At the precision that the model was trained and scored with, where its card says."""
    return resolve(RuntimeSettings(device=device, precision=card.training.get("precision", "auto")))
