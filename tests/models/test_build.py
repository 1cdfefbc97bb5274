"""Classifiers built for every family: by name, empty, without storage, and with a state."""

import pytest
import torch

from soups.checkpoints.card import Architecture
from soups.core.errors import DataError
from soups.models.build import BUILDERS, build_empty, build_start, build_with_weights, build_without_storage, describe
from soups.models.settings import ModelSettings

CLASSES = ("a", "b", "c")


@pytest.mark.parametrize(("model", "family"), [("baseline", "baseline"), ("timm:test_resnet", "timm")])
def test_the_name_decides_the_family_and_the_card_rebuilds_the_network(model: str, family: str) -> None:
    settings = ModelSettings(model=model, pretrained="none")
    start = build_start(settings, CLASSES, seed=1)
    assert start.architecture.family == family and describe(settings) == (start.architecture, start.preprocessing)
    again = build_with_weights(start.architecture, CLASSES, start.classifier.state_dict(), "m.safetensors")
    images = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(again(images), start.classifier(images))


def test_one_family_owns_each_name_and_open_clip_owns_the_rest() -> None:
    for model, owner in (("baseline", "baseline"), ("timm:resnet18", "timm"), ("hf-hub:o/n", "timm"), ("ViT-B/32", "")):
        assert [name for name, family in BUILDERS.items() if family.owns(model)] == [owner] * bool(owner)


def test_an_empty_classifier_has_a_zero_head_and_is_the_same_each_time() -> None:
    architecture, _ = describe(ModelSettings(model="baseline"))
    state = torch.get_rng_state()
    first, second = (build_empty(architecture, CLASSES) for _ in range(2))
    assert torch.equal(torch.get_rng_state(), state) and not first.training
    assert first.head.weight.shape == (3, 128) and not first.head.weight.any() and not first.head.bias.any()
    assert all(torch.equal(value, second.state_dict()[key]) for key, value in first.state_dict().items())


def test_a_network_without_storage_has_names_and_shapes_only() -> None:
    architecture, _ = describe(ModelSettings(model="baseline"))
    empty, meta = build_empty(architecture, CLASSES), build_without_storage(architecture, CLASSES, "card")
    assert all(tensor.is_meta for tensor in meta.backbone.state_dict().values())
    shapes = [{key: tensor.shape for key, tensor in network.state_dict().items()} for network in (empty, meta)]
    assert shapes[0] == shapes[1]


def test_an_unknown_family_lists_the_families() -> None:
    with pytest.raises(DataError, match=r"'x' is of an unknown family\n  expected: one of open_clip, timm, baseline"):
        build_empty(Architecture(family="keras", name="x"), CLASSES)


def test_a_state_that_does_not_fit_names_the_file() -> None:
    architecture, _ = describe(ModelSettings(model="baseline"))
    state = build_empty(architecture, ("a", "b")).state_dict()
    with pytest.raises(
        DataError, match=r"m\.pt: its weights do not fit baseline(.|\n)*'head.weight' of shape \(2, 128\)"
    ):
        build_with_weights(architecture, CLASSES, state, "m.pt")
