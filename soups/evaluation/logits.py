"""Logits and features of a model on a set of images, and the files that cache logits."""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from soups.core.errors import DataError
from soups.core.preprocessing import Preprocessing, normalise
from soups.data.images.cache import Images
from soups.data.loader import evaluation_batches
from soups.files.atomic import compact_json, write_array
from soups.runtime.devices import Runtime, autocast

if TYPE_CHECKING:
    import torch

    from soups.models.classifier import Classifier


@dataclass(frozen=True)
class EvaluationSet:
    """Images to score models on, with labels and groups."""

    name: str
    """`val`, `test` or the name of a shift set."""
    images: Images
    """Pixels at the models' evaluation geometry."""
    labels: np.ndarray
    """(N,) int64 class indices; -1 where the label is unknown."""
    groups: np.ndarray
    """(N,) names: person, writer, scene, or the image itself."""
    paths: tuple[Path, ...]
    """The N files, in the order of the images."""

    @property
    def labelled(self) -> bool:
        """Whether every image has a label."""
        return bool(len(self.labels)) and bool((self.labels >= 0).all())


def compute_logits(
    classifier: "torch.nn.Module",
    images: Images,
    preprocessing: Preprocessing,
    runtime: Runtime,
    batch_size: int,
    function: "Callable[[torch.Tensor], torch.Tensor] | None" = None,
) -> np.ndarray:
    """Returns (N, C) float32 logits of all images, in order, with the classifier in evaluation mode.

    Args:
        classifier: on the runtime's device.
        images: uint8 pixels at the evaluation geometry of `preprocessing`.
        preprocessing: mean and standard deviation.
        runtime: device and precision of the forward pass, workers of the data loader.
        batch_size: images in one forward pass; the last bits of the logits depend on it.
        function: applied to the inputs instead of the classifier, for other outputs than logits.
    """
    with inference_mode_at(classifier, runtime):
        batches = evaluation_batches(images, batch_size, runtime.workers)
        return np.concatenate([batch_logits(function or classifier, each, preprocessing, runtime) for each in batches])


def compute_features(
    classifier: "Classifier", images: Images, preprocessing: Preprocessing, runtime: Runtime, batch_size: int
) -> np.ndarray:
    """Returns (N, D) float32 inputs of the head, of length 1 if the classifier scales them; see `compute_logits`."""
    return compute_logits(classifier, images, preprocessing, runtime, batch_size, classifier.features)


@contextmanager
def inference_mode_at(classifier: "torch.nn.Module", runtime: Runtime) -> Iterator[None]:
    """Sets evaluation mode, no gradients and the runtime's precision within the block."""
    import torch

    classifier.eval()
    with torch.inference_mode(), autocast(runtime), _sequence_first(classifier, runtime):
        yield


def batch_logits(
    classifier: "Callable[[torch.Tensor], torch.Tensor]",
    pixels: "torch.Tensor",
    preprocessing: Preprocessing,
    runtime: Runtime,
) -> np.ndarray:
    """Returns (B, C) float32 logits of (B, S, S, 3) uint8 pixels; must be called within `inference_mode_at`."""
    inputs = normalise(pixels.to(runtime.device, non_blocking=True), preprocessing)
    return classifier(inputs).float().cpu().numpy()


@contextmanager
def _sequence_first(classifier: "torch.nn.Module", runtime: Runtime) -> Iterator[None]:
    """Sets `batch_first=False` in open_clip's transformers within the block; equal results in less time.

    With `batch_first`, torch's attention transposes its input and, without gradients under autocast, multiplies it by
    one copy of the weights for each position: measured on a bf16 CPU, ViT-B/32 then evaluates slower than in fp32.
    """
    from torch import nn

    switched: list[Any] = []
    stacks: Iterable[Any] = classifier.modules() if runtime.precision != "fp32" else ()
    for stack in stacks:
        if getattr(stack, "batch_first", False) and hasattr(stack, "resblocks"):
            attentions = [getattr(block, "attn", None) for block in stack.resblocks]
            if all(isinstance(attention, nn.MultiheadAttention) for attention in attentions):
                switched += [stack, *attentions]
    try:
        for module in switched:
            module.batch_first = False
        yield
    finally:
        for module in switched:
            module.batch_first = True


def logits_path(folder: Path, sha256: str, set_name: str, images: Sequence[Path], runtime: Runtime) -> Path:
    """Returns the cache file of a checkpoint's logits on a set; its name depends on weights, images and precision."""
    return stamped_path(folder, sha256, set_name, image_stamps(images, max(1, len(images)))[0], runtime)


def stamped_path(folder: Path, sha256: str, set_name: str, stamp: str, runtime: Runtime) -> Path:
    """Returns `logits_path` for a known stamp of the images."""
    return folder / f"{sha256[:16]}-{set_name}-{stamp}-{runtime.precision}.npy"


def image_stamps(images: Sequence[Path], size: int) -> tuple[str, list[str]]:
    """Returns hashes of the names, sizes and modification times of image files: of all, and of each `size` in a row.

    Raises:
        DataError: an image is missing.
    """
    whole, parts = hashlib.sha256(b"["), []
    for start in range(0, len(images), size):
        part = images[start : start + size]
        text = ",".join(compact_json([path.as_posix(), *_size_and_time(path)]) for path in part)
        whole.update(("," + text if start else text).encode())
        parts.append(hashlib.sha256(f"[{text}]".encode()).hexdigest()[:8])
    whole.update(b"]")
    return whole.hexdigest()[:8], parts


def _size_and_time(path: Path) -> tuple[int, int]:
    try:
        status = path.stat()
    except OSError as error:
        raise DataError(f"{path}: the image is missing", next_step="restore it, or start a new run") from error
    return status.st_size, status.st_mtime_ns


def read_logits(path: Path, images: int, classes: int | None, mapped: bool = False) -> np.ndarray | None:
    """Returns cached logits, or None if the file is missing, damaged or of another shape.

    Args:
        path: the cache file.
        images: expected N.
        classes: expected C; None: any.
        mapped: return a view of the file, which takes no memory.
    """
    try:
        logits = np.load(path, mmap_mode="r" if mapped else None, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    shape = (images, *logits.shape[1:]) if classes is None else (images, classes)
    return logits if logits.shape == shape and logits.dtype == np.float32 else None


def store_logits(path: Path, logits: np.ndarray) -> None:
    """Writes logits to a cache file, atomically."""
    write_array(path, logits)
