"""Per-class scores against scikit-learn; the confusion matrix as text and picture."""

import warnings
from pathlib import Path

import numpy as np
import pytest

from soups.core.errors import DataError
from soups.report import per_class
from soups.report.per_class import class_scores, class_table, confusion_matrix, confusion_text, draw_confusion


def test_confusion_equals_a_loop() -> None:
    rng = np.random.default_rng(0)
    labels, predictions = rng.integers(0, 4, 200), rng.integers(0, 5, 200)
    expected = np.zeros((6, 6), dtype=int)
    for label, prediction in zip(labels, predictions, strict=True):
        expected[label, prediction] += 1
    assert np.array_equal(confusion_matrix(labels, predictions, 6), expected)
    with pytest.raises(DataError, match="predictions of other images"):
        confusion_matrix(labels, predictions[1:], 6)


def test_scores_equal_scikit_learn() -> None:
    from sklearn.metrics import precision_recall_fscore_support

    for seed in range(30):
        rng = np.random.default_rng(seed)
        labels, predictions = rng.integers(0, 4, 12), rng.integers(0, 5, 12)
        rows = class_scores(confusion_matrix(labels, predictions, 6), list("abcdef"))
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore")
            expected = precision_recall_fscore_support(labels, predictions, labels=range(6), zero_division=np.nan)
        for index, key in enumerate(("precision", "recall", "f1", "support")):
            found = [np.nan if row[key] is None else row[key] for row in rows]
            np.testing.assert_allclose(found, expected[index], err_msg=key)


MATRIX = np.array([[8, 2, 0], [0, 0, 0], [1, 0, 9]])
NAMES = ["cat", "dog", "owl"]


def test_class_table() -> None:
    assert class_table(MATRIX, NAMES).splitlines() == [
        "class            precision %  recall %  F1 %  images",
        "───────────────  ───────────  ────────  ────  ──────",
        "cat                     88.9      80.0  84.2      10",
        "dog                      0.0         –   0.0       0",
        "owl                    100.0      90.0  94.7      10",
        "mean of classes         63.0      85.0  59.6      20",
    ]


def test_confusion_text() -> None:
    assert confusion_text(MATRIX, NAMES).splitlines() == [
        "truth ↓  predicted →  cat  dog  owl",
        "────────────────────  ───  ───  ───",
        "cat                     8    2    ·",
        "dog                     ·    ·    ·",
        "owl                     1    ·    9",
    ]


def test_long_names_head_their_columns_by_number() -> None:
    lines = confusion_text(MATRIX, ["a very long name", "b", "c"]).splitlines()
    assert lines[0].split() == ["truth", "↓", "predicted", "→", "0", "1", "2"]
    assert lines[2].split() == ["0", "a", "very", "long", "name", "8", "2", "·"]


def test_many_classes_are_cut_to_those_with_most_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    matrix = np.diag(np.full(30, 5))
    matrix[3, 17], matrix[17, 3], matrix[29, 3], matrix[1, 2] = 4, 2, 3, 1
    monkeypatch.setattr(per_class, "_MAX_TEXT_CLASSES", 3)
    text = confusion_text(matrix, [f"c{i}" for i in range(30)])
    lines = text.splitlines()
    assert lines[0].split()[-3:] == ["c3", "c17", "c29"]
    assert lines[2].split() == ["c3", "5", "4", "·"]
    assert lines[-1] == "(the 3 of 30 classes with most errors; 9 of 10 errors are among them)"


@pytest.mark.parametrize("classes", [1, 2, 10, 60])
def test_figures_have_equal_bytes_and_a_limited_size(tmp_path: Path, classes: int) -> None:
    from PIL import Image

    rng = np.random.default_rng(classes)
    matrix = rng.binomial(1, min(1, 3 / classes), (classes, classes)) + 20 * np.eye(classes, dtype=int)
    names = [f"class $name$ 中 {index} of a long kind" for index in range(classes)]
    for name in ("one.png", "two.png"):
        draw_confusion(matrix, names, tmp_path / name, title="Confusion matrix")
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()
    with Image.open(tmp_path / "one.png") as picture:
        assert 400 < min(picture.size) <= max(picture.size) < 2500


def test_a_class_without_images_gives_no_warning(tmp_path: Path) -> None:
    draw_confusion(MATRIX, NAMES, tmp_path / "m.png", title="Confusion matrix")
    assert (tmp_path / "m.png").stat().st_size > 1000
