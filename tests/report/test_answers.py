"""Predictions beside labels, split into the factors of the class."""

import numpy as np
import pytest

from soups.core.errors import DataError
from soups.core.labels import Factor, LabelSpace
from soups.report.answers import JOINT, LabelledPredictions

SPACE = LabelSpace.product([Factor("age", ("child", "adult")), Factor("mask", ("no", "yes", "wrong"))])


def test_predictions_of_each_factor() -> None:
    labels = np.array([SPACE.names.index(name) for name in ("child/no", "adult/yes", "adult/wrong")])
    predictions = np.array([SPACE.names.index(name) for name in ("child/yes", "adult/yes", "child/wrong")])
    answers = LabelledPredictions(labels, predictions, np.array(["a", "a", "b"]), SPACE)
    parts = answers.by_factor()
    assert list(parts) == [JOINT, "age", "mask"] and parts[JOINT] is answers
    assert parts["age"].matrix.tolist() == [[1, 0], [1, 1]]
    assert parts["mask"].matrix.tolist() == [[0, 1, 0], [0, 1, 0], [0, 0, 1]]
    assert answers.matrix.shape == (6, 6) and len(answers.sums) == 2


def test_plain_classes_have_no_factors() -> None:
    answers = LabelledPredictions(np.array([0]), np.array([1]), np.array(["a"]), LabelSpace(("cat", "dog")))
    assert list(answers.by_factor()) == [JOINT] and answers.matrix.tolist() == [[0, 1], [0, 0]]


def test_labels_and_predictions_of_different_lengths_are_rejected() -> None:
    answers = LabelledPredictions(np.array([0]), np.array([0, 1]), np.array(["a"]), SPACE)
    with pytest.raises(DataError, match=r"predictions of other images(?s:.*)1 images(?s:.*)2"):
        _ = answers.matrix
