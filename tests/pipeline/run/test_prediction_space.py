"""Classes of prediction tables without a run, and thumbnails of their images."""

from pathlib import Path

import pytest
from PIL import Image

from soups.data.settings import DataSettings
from soups.files.prediction_tables import PredictionTable, read_predictions
from soups.pipeline.run.prediction_space import plain_space, thumbnail, thumbnail_reader


def table(path: Path, *answers: str) -> PredictionTable:
    path.write_text("id,answer\n" + "".join(f"{row},{answer}\n" for row, answer in enumerate(answers)))
    return read_predictions(path)


def test_classes_are_those_that_occur(tmp_path: Path) -> None:
    names = [table(tmp_path / "a.csv", "dog", "cat"), table(tmp_path / "b.csv", "owl", "cat")]
    assert plain_space(names).names == ("cat", "dog", "owl")
    assert plain_space([table(tmp_path / "c.csv", "10", "9", "2")]).names == ("2", "9", "10")


def test_classes_with_a_probability_count(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id,cat,dog,owl\n1,0.2,0.8,0\n")
    assert plain_space([read_predictions(tmp_path / "a.csv")]).names == ("cat", "dog", "owl")


def test_thumbnails_of_images_below_the_test_location(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "images").mkdir()
    Image.new("RGB", (512, 128), (9, 8, 7)).save(tmp_path / "images" / "a.png")
    data = DataSettings(test_location=str(tmp_path / "images"))
    read = thumbnail_reader(["a.png"], None, data)
    assert read is not None and read(0).shape == (64, 256, 3) and (read(0) == [9, 8, 7]).all()
    assert thumbnail(tmp_path / "images" / "a.png").shape == (64, 256, 3)
    caplog.set_level("INFO")
    assert thumbnail_reader(["a.png", "b.png"], None, data) is None
    assert "no thumbnails: the images are neither in a run nor below --test-location" in caplog.text
