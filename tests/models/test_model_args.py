"""`--model-args`: parsed, refused, stored in the card, and used to rebuild the network."""

from pathlib import Path

import pytest
import torch
from pydantic import ValidationError
from timm.models import create_model

from soups.checkpoints.card import Architecture, Card, card_text, read_card
from soups.checkpoints.checkpoint import write_checkpoint
from soups.core.errors import DataError, UsageError
from soups.models.build import build_empty, build_start
from soups.models.load import load_classifier
from soups.models.model_args import format_model_args, parse_model_args
from soups.models.settings import ModelSettings

CLASSES = ("cat", "dog")
SMALL_VIT = ("patch_size=4", "img_size=32", "embed_dim=24", "num_heads=2", "depth=2")


def small_vit(**changes: object) -> ModelSettings:
    given = {"model": "timm:vit_tiny_patch16_224", "pretrained": "none", "model_args": SMALL_VIT, **changes}
    return ModelSettings.model_validate(given)


def test_values_are_yaml() -> None:
    given = ("patch_size=4", "drop_path_rate=1e-1", "qk_norm=True", "depths=[2, 2,6,2]", "act_layer=gelu_tanh")
    assert parse_model_args(given) == {
        "patch_size": 4,
        "drop_path_rate": 0.1,
        "qk_norm": True,
        "depths": [2, 2, 6, 2],
        "act_layer": "gelu_tanh",
    }
    assert parse_model_args(format_model_args(parse_model_args(given))) == parse_model_args(given)


def test_a_mapping_in_a_settings_file_equals_the_flags() -> None:
    assert small_vit(model_args={"depth": "2", "depths": ["2", "6"]}).arguments == {"depth": 2, "depths": [2, 6]}
    assert small_vit(model_args=()).model_args is None
    assert small_vit(model_args=("b= [1, 2]", "a=1e-1")) == small_vit(model_args={"a": "0.1", "b": ["1", "2"]})


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("depth", "expected NAME=VALUE"),
        ("de pth=2", "expected NAME=VALUE"),
        ("depth=", "expected a number, a word, True or False"),
        ("depth={a: 1}", "expected a number, a word, True or False"),
        ("depth=[1", "'depth=\\[1'"),
        ("depth=1e9", "expected a number up to 65536"),
        ("depth=.inf", "expected a number up to 65536"),
    ],
)
def test_malformed_arguments_are_refused(given: str, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        small_vit(model_args=(given,))
    with pytest.raises(ValidationError, match="depth is given twice"):
        small_vit(model_args=("depth=1", "depth=2"))


def test_a_vit_of_constructor_arguments_is_saved_and_loaded(tmp_path: Path) -> None:
    start = build_start(small_vit(), CLASSES, seed=0)
    expected = {"patch_size": 4, "img_size": 32, "embed_dim": 24, "num_heads": 2, "depth": 2}
    assert start.architecture == Architecture(family="timm", name="vit_tiny_patch16_224", arguments=expected)
    assert (start.preprocessing.size, start.classifier.head.in_features) == (32, 24)
    timms = create_model("vit_tiny_patch16_224", num_classes=0, **expected)
    timms.load_state_dict(start.classifier.backbone.state_dict(), strict=True)
    card = Card(kind="start", architecture=start.architecture, classes=CLASSES, preprocessing=start.preprocessing)
    write_checkpoint(tmp_path / "a.safetensors", start.classifier.state_dict(), card)
    assert read_card(tmp_path / "a.safetensors") == card
    loaded, _ = load_classifier(tmp_path / "a.safetensors", architecture=start.architecture)
    pictures = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(loaded(pictures), start.classifier(pictures))
    other = start.architecture.model_copy(update={"arguments": {**expected, "depth": 3}})
    with pytest.raises(DataError, match=r"another architecture\n  expected: .* depth=3"):
        load_classifier(tmp_path / "a.safetensors", architecture=other)


def test_a_card_without_arguments_keeps_its_earlier_bytes() -> None:
    architecture = Architecture(family="timm", name="test_vit")
    preprocessing = build_start(ModelSettings(model="baseline"), CLASSES, 0).preprocessing
    text = card_text(Card(kind="start", architecture=architecture, classes=CLASSES, preprocessing=preprocessing))
    assert '"architecture":{"config":null,"family":"timm","name":"test_vit","quick_gelu":false}' in text


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_args": ("detph=3",)}, r"has no argument 'detph'\n  expected: one of img_size(.|\n)*mean 'depth'\?"),
        ({"model_args": ("num_classes=3",)}, r"has no argument 'num_classes'"),
        ({"model_args": ("features_only=True",)}, r"has no argument 'features_only'"),
        ({"model_args": ("embed_dim=25",)}, r"--model-args embed_dim=25: timm cannot build timm:vit_tiny_patch16_224"),
        ({"model_args": ("global_pool=",)}, "expected a number, a word"),
        ({"model_args": ("depth=three",)}, r"--model-args depth=three: timm cannot build"),
        ({"image_size": 64}, r"--image-size 64 and --model-args img_size=32 differ"),
        ({"model": "timm:resnet18", "model_args": ("blok_args=1",)}, r"did you mean 'block_args'"),
        ({"model": "ViT-B/32"}, r"--model-args: not supported for ViT-B/32"),
        ({"model": "baseline"}, r"unknown argument of baseline 'depth'\n  expected: one of widths"),
    ],
)
def test_invalid_arguments_are_refused(changes: dict, message: str) -> None:
    with pytest.raises((UsageError, ValidationError), match=message):
        build_start(small_vit(**changes), CLASSES, seed=0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"features_only": True}, "timm cannot build it"),
        ({"depth": 10**9}, "its arguments are not valid"),
        ({"detph": 3}, "timm cannot build it"),
        ({"checkpoint_path": "/etc/passwd"}, "timm cannot build it"),
    ],
)
def test_a_cards_arguments_are_not_trusted(arguments: dict, message: str) -> None:
    with pytest.raises(DataError, match=message):
        build_empty(Architecture(family="timm", name="test_vit", arguments=arguments), CLASSES)


def test_published_weights_that_do_not_fit_are_an_error(tmp_path: Path) -> None:
    from timm.models import save_for_hf

    model = create_model("test_vit", num_classes=3)
    save_for_hf(model, tmp_path)
    resized = ModelSettings(model=f"timm:local-dir:{tmp_path}", image_size=96)
    start = build_start(resized, CLASSES, seed=0)
    assert start.architecture.arguments["img_size"] == 96
    own = start.classifier.backbone.state_dict()
    assert torch.equal(own["patch_embed.proj.weight"], model.state_dict()["patch_embed.proj.weight"])
    assert own["pos_embed"].shape[1] < model.state_dict()["pos_embed"].shape[1]
    for argument in ("depth=9", "embed_dim=128"):
        deeper = resized.model_copy(update={"model_args": (argument,), "image_size": None})
        with pytest.raises(
            DataError, match=rf"do not fit the network\n  expected: .*{argument}(.|\n)*--pretrained none"
        ):
            build_start(deeper, CLASSES, seed=0)
