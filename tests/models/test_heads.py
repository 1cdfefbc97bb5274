"""Heads and the classifier, with a toy backbone."""

import pytest
import torch
from torch import nn

from soups.models.classifier import Classifier
from soups.models.heads import empty_head, random_head, seeded_build


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


def test_random_heads_follow_the_seed_alone() -> None:
    state = torch.get_rng_state()
    first, again, other = random_head(8, 3, seed=1), random_head(8, 3, seed=1), random_head(8, 3, seed=2)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(first.weight, again.weight) and not torch.equal(first.weight, other.weight)
    assert torch.equal(first.bias, torch.zeros(3))
    assert random_head(1000, 1000, seed=0).weight.std().item() == pytest.approx(0.02, rel=0.01)


def test_an_empty_head_is_zero() -> None:
    assert not empty_head(4, 3).weight.any() and empty_head(4, 3).weight.shape == (3, 4)


def test_a_failed_build_puts_the_generator_back() -> None:
    state = torch.get_rng_state()
    with pytest.raises(ZeroDivisionError):
        seeded_build(lambda: 1 / (len(torch.rand(1)) - 1), seed=3)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(seeded_build(lambda: torch.rand(2), 7), seeded_build(lambda: torch.rand(2), 7))
