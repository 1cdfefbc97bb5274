"""`soups.load` and the predictor that it returns: a model from a file, a folder or the hub, with its preprocessing."""

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
    """A model, soup or not, with the classes, preprocessing and architecture of its card.

    All methods accept one image or several: paths, `PIL.Image`s of any mode, arrays (H, W, 3) uint8 (RGB in [0, 255])
    and batches (N, H, W, 3), in any mixture. One image is a batch of one. A file, the image that Pillow opens from it
    and the pixels of that image give the same bits.
    """

    def __init__(self, classifier: "Classifier", card: Card, runtime: Runtime, batch_size: int) -> None:
        self.classifier = classifier.to(runtime.device)
        self.card = card
        self.space = card.space
        self.runtime = runtime
        self.batch_size = batch_size

    @property
    def device(self) -> str:
        """Return the device of the model."""
        return self.runtime.device

    @property
    def classes(self) -> tuple[str, ...]:
        """Return the class names in the order of the columns of `predict_proba`."""
        return self.space.names

    def to(self, device: str) -> "Predictor":
        """Move the model to another device; return the predictor itself.

        Args:
            device: `auto`, `cpu`, or an accelerator's name.

        Raises:
            EnvironmentFailure: the device does not exist here; the model is not moved.
        """
        runtime = _resolve_runtime(self.card, device)
        self.classifier, self.runtime = self.classifier.to(runtime.device), runtime
        return self

    def predict_proba(self, images: "InputImage | Iterable[InputImage]") -> np.ndarray:
        """Return the probabilities of the classes.

        Args:
            images: N images, of any size.

        Returns:
            (N, C) float32, rows summing to one, columns in the order of `classes`; (1, C) for one image.

        Raises:
            DataError: images cannot be read; the message names them.
        """
        opened = self._open(images)
        if not len(opened):
            return np.zeros((0, len(self.space)), dtype=np.float32)
        logits = compute_logits(self.classifier, opened, self.card.preprocessing, self.runtime, self.batch_size)
        return softmax(logits).astype(np.float32)

    def features(self, images: "InputImage | Iterable[InputImage]") -> np.ndarray:
        """Return the features of images: the input of the model's head.

        Args:
            images: N images, of any size.

        Returns:
            (N, D) float32, (1, D) for one image; features of CLIP's image encoders have length 1.

        Raises:
            DataError: images cannot be read; the message names them.
        """
        opened = self._open(images)
        if not len(opened):
            return np.zeros((0, self.classifier.head.in_features), dtype=np.float32)
        return compute_features(self.classifier, opened, self.card.preprocessing, self.runtime, self.batch_size)

    def predict(self, frame: "pd.DataFrame") -> "pd.DataFrame":
        """Return the table with two more columns: `target` (class name) and `confidence` (its probability).

        Args:
            frame: a table with a column `image`, which holds a path or an image in each row.

        Raises:
            DataError: the column is missing, or images cannot be read; the message names them.
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
        """Return a saliency map: the evidence for a class at each pixel of the model's input.

        Args:
            image: a path, a `PIL.Image` of any mode, or an array (H, W, 3) uint8, RGB.
            method: `cam`, `gradcam`, `gradcam++`, `layercam`, `rollout`, `relevance`; or `auto`: relevance for networks
                whose attention can be read, such as ViT, else gradcam++.
            target: name of the class; None: the predicted class.

        Returns:
            (S, S) float32 in [0, 1] with S = `card.preprocessing.size`, in the frame of the model's input: the image
            resized and centre-cropped by the card's preprocessing (`soups.data.images.geometry.visible_box` gives the
            visible part). All values are 0 if there is no evidence for the class.

        Raises:
            UsageError: the method or class is unknown, or the method does not support the network.
            DataError: the image cannot be read.
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
    """Load a model that soups wrote, or a model of timm, for predictions.

    Args:
        path_or_hub_name: a `.safetensors` file; a folder written by `scripts/push_to_hub.py` or by timm
            (`local-dir:DIR` or `DIR`); or `hf-hub:org/name`, such a folder on the Hugging Face hub.
        device: `auto`, `cpu`, or an accelerator's name.
        batch_size: number of images in one forward pass.

    Raises:
        DataError: the file or folder is missing or damaged, or lacks the description of its model.
        EnvironmentFailure: the device does not exist here, or the hub cannot be reached.
    """
    load_plugins()  # A plugin may add the family of the backbone.
    classifier, card = load_anywhere(str(path_or_hub_name))
    return Predictor(classifier, card, _resolve_runtime(card, device), batch_size)


def _resolve_runtime(card: Card, device: str) -> Runtime:
    """Return the runtime at the precision of the card, with which the model was trained and scored; else `auto`."""
    return resolve(RuntimeSettings(device=device, precision=card.training.get("precision", "auto")))
