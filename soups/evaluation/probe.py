"""Linear probe: cached features of a backbone, and out-of-fold probabilities of a logistic regression on them."""

import hashlib
import logging
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from soups.core.errors import DataError
from soups.core.preprocessing import Preprocessing
from soups.data.images.cache import Images
from soups.evaluation.logits import compute_features, logits_path, read_logits
from soups.files.atomic import write_array
from soups.runtime.devices import Runtime

if TYPE_CHECKING:
    from soups.models.classifier import Classifier

logger = logging.getLogger(__name__)

REGULARISATION = 0.1
"""C of the logistic regression, on standardised features."""
_MAX_STEPS = 2000


def load_or_compute_features(
    classifier: "Classifier",
    images: Images,
    preprocessing: Preprocessing,
    runtime: Runtime,
    batch_size: int,
    folder: Path,
) -> np.ndarray:
    """Returns (N, D) float32 features of images, each of length 1, from the cache if it has them.

    Args:
        classifier: on the CPU.
        images: at the evaluation geometry of `preprocessing`.
        preprocessing: mean and standard deviation.
        runtime: device and precision of the forward pass.
        batch_size: images in one forward pass.
        folder: folder of the cached features.
    """
    digest = hashlib.sha256()
    for name, tensor in classifier.backbone.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.contiguous().numpy().tobytes())
    path = logits_path(folder, digest.hexdigest(), "features", images.paths, runtime)
    cached = read_logits(path, len(images), classes=None)
    if cached is not None:
        return cached
    features = compute_features(classifier.to(runtime.device), images, preprocessing, runtime, batch_size)
    features = features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
    write_array(path, features)
    return features


def out_of_fold_probabilities(
    features: np.ndarray, labels: np.ndarray, groups: np.ndarray, classes: int, folds: int, seed: int
) -> np.ndarray:
    """Returns class probabilities of each image from a logistic regression that was not trained on its group.

    Multinomial regression; folds keep the proportions of the classes (scikit-learn's `StratifiedGroupKFold`).

    Args:
        features: (N, D) floats; standardised on each fold's training part.
        labels: (N,) int64 in [0, C).
        groups: (N,) names.
        classes: C; a class that is missing in a fold's training part gets probability 0 there.
        folds: number of folds; reduced to the number of groups and to the images of the largest class.
        seed: seed of the split into folds.

    Returns:
        (N, C) float64, rows summing to one.

    Raises:
        DataError: there are fewer than two groups or classes, also in the training part of a fold.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedGroupKFold
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    names, owner = np.unique(groups, return_inverse=True)
    images = np.unique(labels, return_counts=True)[1]
    if len(names) < 2 or len(images) < 2 or images.max() < 2:
        found = f"{len(names)} groups, {len(images)} classes, at most {images.max()} images of one class"
        raise DataError("too few groups or classes to cross-validate", expected="at least two of each", found=found)
    splitter = StratifiedGroupKFold(min(folds, len(names), images.max()), shuffle=True, random_state=seed)
    result = np.zeros((len(labels), classes))
    for train, test in splitter.split(features, labels, owner):
        if len(np.unique(labels[train])) < 2:
            raise DataError("too few groups to cross-validate: without one fold, only one class is left")
        head = make_pipeline(StandardScaler(), LogisticRegression(C=REGULARISATION, max_iter=_MAX_STEPS))
        head.fit(features[train], labels[train])
        result[np.ix_(test, head[-1].classes_)] = head.predict_proba(features[test])
    return result
