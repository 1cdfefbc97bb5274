"""Selection of the images to explain."""

from pathlib import Path

import numpy as np

from soups.data.images.cache import Images
from soups.data.images.geometry import Geometry
from soups.pipeline.explain.images import (
    RIGHT,
    UNCERTAIN,
    WRONG,
    PredictedImages,
    select_images,
)

PROBABILITIES = np.array([[0.9, 0.1], [0.8, 0.2], [0.05, 0.95], [0.5, 0.5], [0.8, 0.2]])
LABELS = np.array([0, 0, 0, 0, 1])


def predicted(count: int = 5) -> PredictedImages:
    """The first of five images: rows 0, 1 and 3 are right, rows 2 and 4 wrong, row 3 is the most uncertain."""
    paths = [Path(f"photos of/{'x' * 50} ({number}).png") for number in range(count)]
    groups = np.array([str(path) for path in paths])
    return PredictedImages("images", Images(paths, Geometry(8, 8)), LABELS[:count], PROBABILITIES[:count], groups)


def test_the_most_confident_and_the_most_uncertain_images_are_selected_once() -> None:
    selected = select_images(predicted(), 1)
    assert [(image.why, image.row) for image in selected] == [(RIGHT, 0), (WRONG, 2), (UNCERTAIN, 3)]
    selected = select_images(predicted(), 2)
    assert [(image.why, image.row) for image in selected] == [
        (RIGHT, 0),
        (RIGHT, 1),
        (WRONG, 2),
        (WRONG, 4),
        (UNCERTAIN, 3),
    ]


def test_one_class_alone_has_margins() -> None:
    images = predicted(2)
    one_class = PredictedImages("", images.images, np.zeros(2, dtype=np.int64), np.array([[0.2], [0.7]]), images.groups)
    assert [image.row for image in select_images(one_class, 1)] == [1, 0]


def test_names_are_unique_and_fit_for_files() -> None:
    names = [image.name for image in select_images(predicted(), None)]
    assert len(set(names)) == 5 and names[0].startswith("image1_") and names[0].endswith("x_0_")
    assert all(len(name) <= len("image1_") + 40 and " " not in name and "(" not in name for name in names)
