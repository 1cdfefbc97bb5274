"""Hub folders of timm: loaded by timm alone, and loaded by this package."""

import json
from pathlib import Path

import numpy as np
import pytest

from soups.core.errors import DataError
from soups.models.hub_folder import CARD_FILE, load_hub_folder, write_hub_folder
from tests.models.hub_folders import CLASSES, assert_library_gives_the_logits, build_model, compute_logits

TIMM = ("test_vit", "test_resnet", "test_convnext", "test_efficientnet", "deit_tiny_distilled_patch16_224")


@pytest.mark.parametrize("name", TIMM)
def test_timm_alone_gives_the_same_logits(name: str, tmp_path: Path, pictures: list[Path]) -> None:
    classifier, card = build_model(f"timm:{name}")
    write_hub_folder(tmp_path, classifier, card, name)
    assert_library_gives_the_logits(classifier, card, tmp_path, pictures)
    again, same = load_hub_folder(tmp_path, "here")
    assert same == card
    assert np.array_equal(compute_logits(again, same, pictures), compute_logits(classifier, card, pictures))
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["architecture"] == name and config["num_classes"] == 3
    assert config["label_names"] == list(CLASSES)
    assert "license" not in config["pretrained_cfg"]


def test_another_image_size_is_in_the_configuration(tmp_path: Path, pictures: list[Path]) -> None:
    classifier, card = build_model("timm:test_resnet", image_size=93)
    assert card.preprocessing.size == 93
    write_hub_folder(tmp_path, classifier, card, "it")
    assert_library_gives_the_logits(classifier, card, tmp_path, pictures)


@pytest.mark.parametrize(
    "more",
    [
        {"model_args": {"patch_size": 4, "img_size": 32, "embed_dim": 48, "num_heads": 3, "depth": 2}},
        {"image_size": 64},
    ],
)
def test_arguments_are_in_the_configuration(more: dict[str, object], tmp_path: Path, pictures: list[Path]) -> None:
    classifier, card = build_model("timm:vit_tiny_patch16_224", **more)
    assert card.architecture.arguments
    write_hub_folder(tmp_path, classifier, card, "it")
    assert_library_gives_the_logits(classifier, card, tmp_path, pictures)
    (tmp_path / CARD_FILE).unlink()
    again, made = load_hub_folder(tmp_path, "here")
    assert made.preprocessing == card.preprocessing
    assert np.array_equal(compute_logits(again, made, pictures), compute_logits(classifier, card, pictures))


@pytest.mark.parametrize("fraction", [93 / 101, 93 / 97, 0.9, 1.0])
def test_timm_resizes_to_the_same_side(fraction: float, tmp_path: Path, pictures: list[Path]) -> None:
    classifier, card = build_model("timm:test_resnet", image_size=93)
    changed = {"crop_fraction": fraction, "resize": "squash", "interpolation": "bilinear"}
    card = card.model_copy(update={"preprocessing": card.preprocessing.model_copy(update=changed)})
    write_hub_folder(tmp_path, classifier, card, "it")
    assert_library_gives_the_logits(classifier, card, tmp_path, pictures)


def test_a_folder_written_by_timm_is_loaded(tmp_path: Path, pictures: list[Path]) -> None:
    classifier, card = build_model("timm:test_convnext")
    write_hub_folder(tmp_path, classifier, card, "it")
    (tmp_path / CARD_FILE).unlink()
    again, made = load_hub_folder(tmp_path, "here")
    assert made.classes == CLASSES and made.preprocessing == card.preprocessing
    assert np.array_equal(compute_logits(again, made, pictures), compute_logits(classifier, card, pictures))
    path = tmp_path / "config.json"
    config = json.loads(path.read_text())
    del config["label_names"]
    path.write_text(json.dumps(config))
    assert load_hub_folder(tmp_path, "here")[1].classes == ("0", "1", "2")
    path.write_text(json.dumps(config | {"label_names": ["a"]}))
    with pytest.raises(DataError, match=r"`label_names`(.|\n)*3 names of classes(.|\n)*1"):
        load_hub_folder(tmp_path, "here")
    path.write_text(json.dumps(config | {"architecture": "test_stew"}))
    with pytest.raises(DataError, match=r"timm cannot load it(.|\n)*test_stew"):
        load_hub_folder(tmp_path, "here")
    path.write_text("[]")
    with pytest.raises(DataError, match=r"config\.json: not timm's"):
        load_hub_folder(tmp_path, "here")


def test_two_different_heads_are_refused(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    classifier, card = build_model("timm:deit_tiny_distilled_patch16_224")
    write_hub_folder(tmp_path, classifier, card, "it")
    state = load_file(tmp_path / "model.safetensors")
    state["head_dist.bias"] += 1
    save_file(state, tmp_path / "model.safetensors")
    with pytest.raises(DataError, match=r"has several classifiers(.|\n)*head, head_dist"):
        load_hub_folder(tmp_path, "here")
