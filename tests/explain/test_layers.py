"""The explained layer of each family, and the conversion of outputs to maps."""

from pathlib import Path

import pytest
import torch

from soups.core.errors import UsageError
from soups.explain.layers import FINDERS, Layer, UnsuitableMethod, find_layer, named_layer, patch_grid
from soups.models.build import build_start
from soups.models.settings import ModelSettings
from tests.explain.toys import convolutional, inputs_of, transformer, windowed


def test_layer_of_each_family(tiny_clip: Path) -> None:
    clip = build_start(ModelSettings(model=f"local-dir:{tiny_clip}"), ("red", "green"), seed=0).classifier
    inputs = inputs_of(1)[0]
    assert find_layer(clip, inputs[:, :, :16, :16]).name == "backbone.transformer.resblocks.0.ln_1"
    assert find_layer(transformer(), inputs).name == "backbone.blocks.1.norm1"
    assert find_layer(windowed(), inputs).name == "backbone.norm"
    assert find_layer(convolutional(), inputs).name == "backbone.3"  # The last map, by trying.


@pytest.mark.parametrize(
    ("model", "layer"),
    [("vgg11", "features.19"), ("resnet18", None), ("efficientnet_b0", None), ("convnext_atto", None)],
)
def test_finders_match_only_their_own_family(model: str, layer: str | None) -> None:
    import timm

    with torch.device("meta"):
        tower = timm.create_model(model, num_classes=0)
    found = [name for finder in FINDERS.values() if (name := finder(tower)) is not None]
    assert found == ([layer] if layer else [])


def test_outputs_become_maps() -> None:
    layer = Layer("x", torch.nn.Identity())
    first = torch.arange(2 * 3 * 4 * 4).reshape(2, 3, 4, 4)
    assert torch.equal(layer.to_maps(first), first)
    assert torch.equal(layer.to_maps(first.permute(0, 2, 3, 1)), first)
    tokens = torch.cat([torch.full((2, 1, 3), -1), first.flatten(2).transpose(1, 2)], dim=1)
    assert torch.equal(layer.to_maps(tokens), first)
    for output, words in ((torch.zeros(2, 5), r"no feature map \(shape \(2, 5\)\)"), ([1], "list")):
        with pytest.raises(UnsuitableMethod, match=words):
            layer.to_maps(output)


@pytest.mark.parametrize(("tokens", "prefix", "expected"), [(197, None, (1, 14)), (64, None, (0, 8)), (9, 5, (5, 2))])
def test_patch_grids(tokens: int, prefix: int | None, expected: tuple[int, int]) -> None:
    assert patch_grid(tokens, prefix) == expected


def test_patches_that_form_no_square_are_rejected() -> None:
    with pytest.raises(UnsuitableMethod, match="its 12 tokens are not a square of patches"):
        patch_grid(12, 1)


def test_layers_by_name() -> None:
    classifier = transformer()
    assert named_layer(classifier, "blocks.0.norm2").name == "backbone.blocks.0.norm2"
    assert named_layer(classifier, "backbone.norm").module is classifier.backbone.norm
    with pytest.raises(UsageError, match=r"'blocks.0.nrm2': .* no such module\n.*blocks\.0\.norm2"):
        named_layer(classifier, "blocks.0.nrm2")
    with pytest.raises(UsageError, match="such as patch_embed"):
        named_layer(classifier, "zzzzzz")
