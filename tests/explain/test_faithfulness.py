"""Deletion and insertion: ends of the curves, a known order, and a good map against random ones."""

import numpy as np
import pytest
import torch
from torch import nn

from soups.explain.faithfulness import area_under_curve, blur, deletion_and_insertion
from soups.explain.methods import coarse_maps, model_inputs
from soups.models.classifier import Classifier
from tests.explain.toys import PREPROCESSING, SIDE, convolutional, inputs_of, spots, trained


def test_areas_by_the_trapezoidal_rule() -> None:
    assert area_under_curve(np.array([1.0, 1.0, 1.0])) == 1
    assert area_under_curve(np.array([[1.0, 0.0, 0.0], [0.0, 0.5, 1.0]])).tolist() == [0.25, 0.5]


class Corner(nn.Module):
    """The first feature is the sum of the upper left quarter, the second is nothing."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        quarter = images[:, :, : SIDE // 2, : SIDE // 2].sum(dim=(1, 2, 3)) / 50
        return torch.stack([quarter, torch.zeros_like(quarter)], dim=1)


def test_the_highest_pixels_of_the_map_are_deleted_and_inserted_first() -> None:
    head = nn.Linear(2, 2, bias=False)
    nn.init.eye_(head.weight)
    classifier = Classifier(Corner(), head, normalise_features=False)
    image, label = torch.full((1, 3, SIDE, SIDE), 0.5), torch.tensor([0])
    good, bad = torch.tensor([[[4.0, 3.0], [2.0, 1.0]]]), torch.tensor([[[1.0, 2.0], [3.0, 4.0]]])
    right, wrong = (
        deletion_and_insertion(classifier, image, label, each, steps=4, randoms=2, seed=0) for each in (good, bad)
    )
    full = torch.tensor([0.5 * 3 * (SIDE // 2) ** 2 / 50, 0]).softmax(dim=0)[0].item()
    for found in (right, wrong):
        assert found.deletion[0, [0, -1]].tolist() == pytest.approx([full, 0.5])
        assert found.insertion[0, -1] == pytest.approx(full)
        assert found.random_deletion.shape == (1, 2, 5)
    # Enlarged, the first quarter of the pixels is not quite that of the image.
    assert right.deletion[0, 1] < full - 0.2 and wrong.deletion[0, 1] == pytest.approx(full, abs=1e-6)
    assert (
        area_under_curve(right.deletion)
        < area_under_curve(right.random_deletion).min()
        < area_under_curve(wrong.deletion)
    )


def test_right_maps_are_better_than_chance() -> None:
    classifier = trained(convolutional(), steps=60, rate=1e-2)
    pixels, labels, _ = spots(12, seed=9)
    inputs, classes = model_inputs(classifier, pixels, labels, PREPROCESSING)
    maps = coarse_maps(classifier, inputs, classes, "gradcam")
    found = deletion_and_insertion(classifier, inputs, classes, maps, steps=8, randoms=2, seed=0)
    assert (area_under_curve(found.deletion) < area_under_curve(found.random_deletion).mean(axis=1)).all()
    assert area_under_curve(found.insertion).mean() > area_under_curve(found.random_insertion).mean() + 0.03
    again = deletion_and_insertion(classifier, inputs[3:], classes[3:], maps[3:], steps=8, randoms=2, seed=3)
    assert np.array_equal(again.random_deletion, found.random_deletion[3:])  # Each image has its own seed.


def test_blur_removes_details() -> None:
    image = inputs_of(1)[0][0]
    assert blur(image).shape == image.shape
    assert blur(image).std() < 0.1 * image.std()
