"""Stages and layers of backbones: frozen tensors and layer numbers."""

import open_clip
import pytest
import torch
from timm.models import create_model
from timm.optim import param_groups_layer_decay

from soups.core.errors import UsageError
from soups.models.baseline.network import Baseline
from soups.models.open_clip.build import build_image_tower
from soups.models.stages import check_stage_count, freeze_stages, parameter_layers, split_into_stages
from tests.conftest import TINY_CLIP

RESNET = {**TINY_CLIP, "vision_cfg": {"image_size": 32, "layers": [1, 1, 1, 1], "width": 8, "patch_size": None}}
TRUNK = {**TINY_CLIP, "vision_cfg": {"timm_model_name": "test_vit", "timm_model_pretrained": False, "image_size": 160}}
CONVNEXT = "convnext_atto"
SMALL_SWIN = {"img_size": 64, "embed_dim": 24, "depths": [1, 1, 2, 1], "num_heads": [1, 2, 2, 4]}


def name_prefixes(names: list[str], depth: int) -> set[str]:
    return {".".join(name.split(".")[:depth]) for name in names}


def test_a_vits_blocks_are_stages() -> None:
    found = split_into_stages(create_model("test_vit", num_classes=0))
    assert name_prefixes(found[0], 1) == {"cls_token", "reg_token", "pos_embed", "patch_embed"} & name_prefixes(
        found[0], 1
    )
    assert [name_prefixes(names, 2) for names in found[1:-1]] == [{f"blocks.{i}"} for i in range(len(found) - 2)]
    assert {"norm.weight", "norm.bias"} <= set(found[-1])


@pytest.mark.parametrize(
    ("name", "options", "parts"),
    [
        ("test_resnet", {}, ["layer1", "layer2", "layer3", "layer4"]),
        (CONVNEXT, {}, ["stages.0", "stages.1", "stages.2", "stages.3"]),
        ("swin_tiny_patch4_window7_224", SMALL_SWIN, ["layers.0", "layers.1", "layers.2", "layers.3"]),
        ("test_efficientnet", {}, ["blocks.0", "blocks.1", "blocks.2", "blocks.3"]),
    ],
)
def test_stages_of_timms_networks(name: str, options: dict, parts: list[str]) -> None:
    model = create_model(name, num_classes=0, **options)
    found = split_into_stages(model)
    assert len(found) >= len(parts) + 1
    for part, names in zip(parts, found[1:], strict=False):
        assert {key for key in names if key.startswith(f"{part}.")} == {
            key for key in dict(model.named_parameters()) if key.startswith(f"{part}.")
        } | {key for key in dict(model.named_buffers()) if key.startswith(f"{part}.") and key.endswith("running_mean")}
    assert sorted(key for names in found for key in names if not key.endswith("running_mean")) == sorted(
        dict(model.named_parameters())
    )


def test_stages_of_clip_towers() -> None:
    vit = split_into_stages(build_image_tower(TINY_CLIP))
    assert {"conv1.weight", "class_embedding", "positional_embedding", "ln_pre.weight", "ln_pre.bias"} == set(vit[0])
    assert len(vit) == 2 and {"proj", "ln_post.weight"} < set(vit[1])
    resnet = split_into_stages(build_image_tower(RESNET))
    assert len(resnet) == 5 and "bn3.running_mean" in resnet[0] and "attnpool.q_proj.weight" in resnet[4]
    tower = build_image_tower(TRUNK)
    trunk = split_into_stages(tower)
    assert "trunk.pos_embed" in trunk[0] and name_prefixes(trunk[1], 3) == {"trunk.blocks.0"}
    assert sorted(name for names in trunk for name in names) == sorted(dict(tower.named_parameters()))
    assert [len(names) for names in split_into_stages(Baseline((4, 6, 8)))] == [4, 4, 4]


def test_published_towers_have_stages() -> None:
    for name in ("ViT-B-32", "RN50", "convnext_base"):
        config = open_clip.get_model_config(name)
        with torch.device("meta"):
            found = split_into_stages(build_image_tower(config))
        assert len(found) > 4


def test_frozen_stages_get_no_gradient_and_keep_their_statistics() -> None:
    model = Baseline((4, 6, 8)).train()
    freeze_stages(model, 2)
    assert [name for name, p in model.named_parameters() if not p.requires_grad] == [
        f"blocks.{i}.{rest}" for i in (0, 1) for rest in ("0.weight", "1.weight", "1.bias")
    ]
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    model(torch.randn(2, 3, 16, 16))
    moved = {key for key, tensor in model.state_dict().items() if not torch.equal(tensor, before[key])}
    assert moved == {"blocks.2.1.running_mean", "blocks.2.1.running_var", "blocks.2.1.num_batches_tracked"}


def test_too_many_stages_are_refused() -> None:
    check_stage_count(Baseline((4, 6, 8)), 3, "baseline")
    with pytest.raises(UsageError, match=r"--freeze 4: baseline has only 3 stages\n  expected: 0 to 3"):
        check_stage_count(Baseline((4, 6, 8)), 4, "baseline")


@pytest.mark.parametrize("name", ["test_vit", "test_resnet", CONVNEXT, "test_efficientnet"])
def test_layers_equal_those_of_timm(name: str) -> None:
    """Compares with timm's layer decay of the same network with a classifier."""
    model = create_model(name, num_classes=2)
    scales = {
        id(p): group["lr_scale"] for group in param_groups_layer_decay(model, layer_decay=0.5) for p in group["params"]
    }
    expected = {key: scales[id(p)] for key, p in model.named_parameters()}
    head = next(iter(model.pretrained_cfg["classifier"].split(" ")))
    backbone = create_model(name, num_classes=0)
    layers = parameter_layers(backbone)
    last = layers["head.weight"]
    assert expected[f"{head}.weight"] == 1
    for key, _ in backbone.named_parameters():
        assert 0.5 ** (last - layers[f"backbone.{key}"]) == expected[key]
