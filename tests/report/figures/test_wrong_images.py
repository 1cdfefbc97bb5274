"""The grid of wrong images: their selection and order, their captions, and their pixels."""

from pathlib import Path

import numpy as np
import pytest

from soups.core.labels import Factor, LabelSpace
from soups.report.answers import LabelledPredictions
from soups.report.figures.wrong_images import draw_wrong_images, wrong_rows

NAMES = ["cat", "dog", "owl"]


def predictions_of(table: np.ndarray, labels: np.ndarray, names: list[str] = NAMES) -> LabelledPredictions:
    """Return the most probable classes with their probabilities."""
    space = LabelSpace(tuple(names))
    return LabelledPredictions(
        labels, table.argmax(axis=1), np.arange(len(labels)).astype(str), space, table.max(axis=1)
    )


def test_wrong_rows_are_ordered_by_confidence() -> None:
    for seed in range(50):
        rng = np.random.default_rng(seed)
        table = rng.multinomial(8, np.full(3, 1 / 3), 20) / 8
        labels = rng.integers(0, 3, 20)
        wrong = [row for row in range(20) if int(table[row].argmax()) != labels[row]]
        assert wrong_rows(predictions_of(table, labels)).tolist() == sorted(wrong, key=lambda row: -table[row].max())


def test_only_the_images_shown_are_loaded(tmp_path: Path) -> None:
    from PIL import Image

    labels = np.zeros(30, dtype=np.int64)
    confidence = np.linspace(0.4, 0.9, 30)
    table = np.stack([(1 - confidence) / 2, confidence, (1 - confidence) / 2], axis=1)
    loaded = []

    def image(row: int) -> np.ndarray:
        loaded.append(row)
        return np.full((8, 8, 3), (255, 8 * row, 17), dtype=np.uint8)

    for name in ("one.png", "two.png"):
        loaded.clear()
        assert draw_wrong_images(image, predictions_of(table, labels), tmp_path / name, most=5) == 30
        assert loaded == [29, 28, 27, 26, 25]
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()
    with Image.open(tmp_path / "one.png") as picture:
        colours = {colour[:3] for _, colour in picture.getcolors(10**6) or []}
    assert {(255, 8 * row, 17) for row in loaded} <= colours and (255, 8 * 24, 17) not in colours


def test_captions_in_the_order_of_confidence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    figures = []
    monkeypatch.setattr("soups.report.figures.grid.save_png", lambda figure, path: figures.append(figure))
    table = np.array([[0.6, 0.3, 0.1], [0.1, 0.8, 0.1], [0.0, 0.1, 0.9]])
    answers = predictions_of(table, np.array([1, 1, 0]))
    draw_wrong_images(lambda row: np.zeros((4, 6, 3), np.uint8), answers, tmp_path / "x.png")
    found = [(axes.get_title(), axes.get_xlabel()) for axes in figures[0].axes]
    assert found == [("cat", "owl, 90%"), ("dog", "cat, 60%")]
    assert "2 of 3 images are wrong" in figures[0].get_suptitle()


def test_without_wrong_images_a_figure_is_written(tmp_path: Path) -> None:
    answers = predictions_of(np.eye(3), np.arange(3))
    assert draw_wrong_images(lambda row: 1 / 0, answers, tmp_path / "none.png") == 0  # type: ignore[arg-type, return-value]
    assert (tmp_path / "none.png").stat().st_size > 500


def test_a_failing_image_leaves_the_earlier_file(tmp_path: Path) -> None:
    table, names = np.eye(3)[[1, 2, 0]], ["$x_{", "a" * 80, "猫"]
    path, answers = tmp_path / "grid.png", predictions_of(table, np.arange(3), names)
    assert draw_wrong_images(lambda row: np.zeros((9, 3, 3), np.uint8), answers, path) == 3
    before = path.read_bytes()
    with pytest.raises(ZeroDivisionError):
        draw_wrong_images(lambda row: 1 / 0, answers, path)  # type: ignore[arg-type, return-value]
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


def test_captions_show_the_wrong_factors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    figures = []
    monkeypatch.setattr("soups.report.figures.grid.save_png", lambda figure, path: figures.append(figure))
    space = LabelSpace.product([Factor("mask", ("on", "off")), Factor("age", ("young", "old"))])
    answers = LabelledPredictions(np.array([0, 1, 3]), np.array([3, 1, 2]), np.array(["a", "b", "c"]), space)
    assert draw_wrong_images(lambda row: np.zeros((4, 6, 3), np.uint8), answers, tmp_path / "x.png") == 2
    found = [(axes.get_title(), axes.get_xlabel()) for axes in figures[0].axes]
    assert found == [("on\nyoung", "off\nold"), ("off\nold", "young")]  # Without confidences, in their own order.
    assert "its confidence" not in figures[0].get_suptitle()
