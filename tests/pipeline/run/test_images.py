"""Class indices of labels, and the sets of a run as images."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from soups.core.errors import DataError
from soups.core.labels import Factor, LabelSpace
from soups.data.settings import CacheSettings, DataSettings
from soups.pipeline.run.images import encode_labels, evaluation_set, image_paths, prepare_images, training_set
from soups.pipeline.run.run import Run
from soups.training.settings import TrainingSettings
from tests.pipeline.small_run import CARD, make_run, recorded_settings

CACHE = CacheSettings(cache="off")


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """The small run with its four images."""
    small = make_run(tmp_path)
    for number, name in enumerate("abcd"):
        Image.new("RGB", (6, 6), (number, 0, 0)).save(tmp_path / f"{name}.png")
    return Run(
        small.folder, small.models, recorded_settings(data=DataSettings(data_location=str(tmp_path))), small.table
    )


def test_images_without_a_label_are_minus_one(run: Run) -> None:
    codes = encode_labels(pd.DataFrame({"label": ["dog", "", "cat"]}), run)
    assert codes.dtype == np.int64 and codes.tolist() == [1, -1, 0]


def test_labels_in_other_factors(run: Run) -> None:
    ages = LabelSpace.product([Factor("age", ("old", "young"))])
    rows = pd.DataFrame({"label": ["dog", "cat", "cat"], "age": ["young", "", "old"]})
    assert encode_labels(rows, run, ages).tolist() == [1, -1, 0]
    with pytest.raises(DataError, match="run 'p': its table has no column for age"):
        encode_labels(rows[["label"]], run, ages)


def test_sets_of_a_run(run: Run, tmp_path: Path) -> None:
    rows = run.samples[run.samples["split"] == "val"]
    assert image_paths(rows, run) == (tmp_path / "c.png", tmp_path / "d.png")
    val = evaluation_set("val", rows, run, CARD.preprocessing, CACHE)
    assert val.labels.tolist() == [1, 0] and val.groups.tolist() == ["3", "4"] and len(val.images) == 2
    settings = TrainingSettings(oversample=("dog=3",), class_weights=("dog=2",))
    train = training_set(run, settings, CARD.preprocessing, CACHE)
    assert train.labels.tolist() == [0, 1] and sorted(train.rows.tolist()) == [0, 1, 1, 1]
    assert train.class_weights is not None and train.class_weights.tolist() == [1, 2] and train.chances is None


def test_all_unreadable_images_are_listed(run: Run, tmp_path: Path) -> None:
    prepare_images(run, CARD.preprocessing, CACHE, "crop")
    for name in ("b.png", "c.png"):
        (tmp_path / name).write_bytes(b"no image")
    with pytest.raises(DataError, match=r"(?s)b\.png.*c\.png"):
        prepare_images(run, CARD.preprocessing, CacheSettings(cache="on"), "crop")
