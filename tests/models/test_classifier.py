"""Logits and features of a classifier."""

import pytest
import torch
from torch import nn

from soups.models.classifier import Classifier
from soups.models.heads import random_head


@pytest.mark.parametrize("normalised", [True, False])
def test_logits_are_the_head_on_features(normalised: bool) -> None:
    backbone, head = nn.Flatten(), random_head(12, 5, seed=0)
    classifier = Classifier(backbone, head, normalise_features=normalised)
    images = torch.randn(4, 3, 2, 2)
    rows = []
    for image in images:
        feature = image.reshape(-1)
        if normalised:
            feature = feature / feature.pow(2).sum().sqrt()
        rows.append(head.weight @ feature + head.bias)
    torch.testing.assert_close(classifier(images), torch.stack(rows))
    assert set(classifier.state_dict()) == {"head.weight", "head.bias"}


def test_a_feature_of_length_zero_gives_no_nan() -> None:
    classifier = Classifier(nn.Flatten(), random_head(12, 5, seed=0), normalise_features=True)
    assert torch.equal(classifier(torch.zeros(1, 3, 2, 2)), torch.zeros(1, 5))
