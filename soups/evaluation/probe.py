"""A cheap head on kept features: what a linear classifier says of each image that it was not trained on."""

import hashlib
import logging
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from soups.core.errors import DataError
from soups.core.preprocessing import Preprocessing
from soups.data.images.cache import Images
from soups.evaluation.logits import compute_features, logits_path
from soups.files.atomic import write_array
from soups.runtime.devices import Runtime

if TYPE_CHECKING:
    from soups.models.classifier import Classifier

logger = logging.getLogger(__name__)

REGULARISATION = 0.1
"""C of the logistic regression, on standardised features."""
_MOST_STEPS = 2000


def load_or_compute_features(
    classifier: "Classifier",
    images: Images,
    preprocessing: Preprocessing,
    runtime: Runtime,
    batch_size: int,
    folder: Path,
) -> np.ndarray:
    """(N, D) float32 features of images, each of length 1; kept ones where the backbone has seen them before.

    Args:
        classifier: on the CPU.
        images: at the evaluation geometry of `preprocessing`.
        preprocessing: mean and std.
        runtime: device and precision of the forward pass.
        batch_size: images in one forward pass.
        folder: where features are kept.
    """
    digest = hashlib.sha256()
    for name, tensor in classifier.backbone.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.contiguous().numpy().tobytes())
    path = logits_path(folder, digest.hexdigest(), "features", images.paths, runtime)
    try:
        kept = np.load(path, allow_pickle=False)
        if len(kept) == len(images):
            return kept
    except (OSError, ValueError, EOFError):
        pass
    features = _compute(classifier, images, preprocessing, runtime, batch_size)
    write_array(path, features)
    return features


def _compute(
    classifier: "Classifier", images: Images, preprocessing: Preprocessing, runtime: Runtime, batch_size: int
) -> np.ndarray:
    features = compute_features(classifier.to(runtime.device), images, preprocessing, runtime, batch_size)
    return features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)


def out_of_fold(
    features: np.ndarray, labels: np.ndarray, groups: np.ndarray, classes: int, folds: int, seed: int
) -> np.ndarray:
    """Probabilities of a multinomial logistic regression, of each image by one that has seen nobody of its group.

    Groups are dealt out to the folds so that classes keep their proportions (scikit-learn's `StratifiedGroupKFold`).

    Args:
        features: (N, D) floats; standardised on each fold's training part.
        labels: (N,) int64 in [0, C).
        groups: (N,) names.
        classes: C; one that is missing in a fold's training part gets probability 0 there.
        folds: how many, at the most as many as groups.
        seed: of the dealing out.

    Returns:
        (N, C) float64, rows summing to one.

    Raises:
        DataError: fewer than two groups or classes.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedGroupKFold
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    names, owner = np.unique(groups, return_inverse=True)
    if len(names) < 2 or len(np.unique(labels)) < 2:
        found = f"{len(names)} groups, {len(np.unique(labels))} classes"
        raise DataError("too little to cross-validate", expected="two groups and two classes or more", found=found)
    splitter = StratifiedGroupKFold(min(folds, len(names)), shuffle=True, random_state=seed)
    result = np.zeros((len(labels), classes))
    for train, held in splitter.split(features, labels, owner):
        if len(np.unique(labels[train])) < 2:
            raise DataError("too few groups to cross-validate: without some, only one class is left")
        head = make_pipeline(StandardScaler(), LogisticRegression(C=REGULARISATION, max_iter=_MOST_STEPS))
        head.fit(features[train], labels[train])
        result[np.ix_(held, head[-1].classes_)] = head.predict_proba(features[held])
    return result
