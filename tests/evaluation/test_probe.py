"""Out-of-fold probabilities of the linear probe, and its cached features."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from soups.core.errors import DataError
from soups.core.preprocessing import Preprocessing
from soups.data.images.cache import Images
from soups.data.images.geometry import evaluation_geometry
from soups.evaluation import probe
from soups.evaluation.label_errors import propose_corrections
from soups.evaluation.probe import load_or_compute_features, out_of_fold_probabilities
from soups.models.classifier import Classifier
from soups.runtime.devices import Runtime

RUNTIME = Runtime(precision="fp32", threads=1)
LEVELS = ("young", "middle", "old")


def blobs(seed: int, people: int = 40, photos: int = 4) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features of persons' photos, their levels, and the persons."""
    rng = np.random.default_rng(seed)
    own = rng.integers(0, 3, people)
    centres = 3 * np.eye(3, 6)[own] + rng.normal(0, 0.5, (people, 6))
    features = np.repeat(centres, photos, axis=0) + rng.normal(0, 0.5, (people * photos, 6))
    return features, np.repeat(own, photos), np.repeat([f"p{n:02}" for n in range(people)], photos)


def test_no_image_of_a_group_is_in_its_training_folds() -> None:
    features, labels, groups = blobs(2)
    # One person far from all others, with a label that only a model trained on that person can predict.
    lone = groups == "p05"
    features[lone] = 3 * np.eye(3, 6)[0] + 40 * np.eye(6)[5]
    labels[lone] = 2
    everybody = np.arange(160).astype(str)
    seen = out_of_fold_probabilities(features, labels, everybody, 3, folds=5, seed=0)[lone]
    unseen = out_of_fold_probabilities(features, labels, groups, 3, folds=5, seed=0)[lone]
    assert (seen[:, 2] > 0.7).all() and (unseen[:, 2] < 0.5).all()


def test_folds_are_reduced_to_the_images_of_the_largest_class() -> None:
    features, labels = np.repeat(np.eye(4), 3, axis=0), np.repeat(np.arange(4), 3)
    result = out_of_fold_probabilities(features, labels, np.arange(12), 4, folds=5, seed=0)
    assert (result.argmax(1) == labels).all()


def test_too_few_groups_or_classes_are_rejected() -> None:
    with pytest.raises(DataError, match=r"(?s)too few groups or classes.*at most 1 images of one class"):
        out_of_fold_probabilities(np.eye(4), np.arange(4), np.arange(4), 4, 5, 0)
    with pytest.raises(DataError, match="too few groups or classes to cross-validate"):
        out_of_fold_probabilities(np.zeros((4, 2)), np.array([0, 1, 0, 1]), np.array(list("aaaa")), 2, 5, 0)
    with pytest.raises(DataError, match="no labelled images"):
        propose_corrections("age", LEVELS, np.zeros(0, dtype=np.int64), np.zeros((0, 3)), [], np.zeros(0))


def test_features_have_length_one_and_are_cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    computed: list[int] = []

    def compute(classifier: object, images: np.ndarray, *_: object) -> np.ndarray:
        computed.append(len(images))
        return np.full((len(images), 4), 3, dtype=np.float32)

    monkeypatch.setattr(probe, "compute_features", compute)
    paths = [tmp_path / name for name in ("a.png", "b.png")]
    for path in paths:
        path.write_bytes(b"x")
    preprocessing = Preprocessing(size=16, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    images = Images(paths, evaluation_geometry(preprocessing))
    backbone = nn.Linear(2, 2)
    classifier = Classifier(backbone, nn.Linear(2, 2), False)
    for _ in range(2):
        features = load_or_compute_features(classifier, images, preprocessing, RUNTIME, 8, tmp_path / "features")
        np.testing.assert_allclose(np.linalg.norm(features, axis=1), 1, rtol=1e-6)
    assert computed == [2]
    with torch.no_grad():
        backbone.weight.add_(1)
    load_or_compute_features(classifier, images, preprocessing, RUNTIME, 8, tmp_path / "features")
    assert computed == [2, 2]  # Other weights have another cache file.
