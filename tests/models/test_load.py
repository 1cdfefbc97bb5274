"""Loading classifiers from checkpoints, and errors for other files."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from soups.checkpoints.card import Architecture, Card, read_card
from soups.checkpoints.checkpoint import write_checkpoint
from soups.core.errors import DataError
from soups.files.atomic import compact_json
from soups.models.build import build_start
from soups.models.load import load_classifier
from soups.models.settings import ModelSettings
from soups.models.start import Start

CLASSES = ("cat", "dog", "eel")


@pytest.fixture(scope="module")
def start(tiny_clip: Path) -> Start:
    return build_start(ModelSettings(model=f"local-dir:{tiny_clip}"), CLASSES, seed=0)


def make_card(start: Start, **changes: Any) -> Card:
    values = {
        "kind": "start",
        "architecture": start.architecture,
        "classes": CLASSES,
        "preprocessing": start.preprocessing,
    }
    return Card.model_validate(values | changes)


@pytest.fixture
def saved(start: Start, tmp_path: Path) -> tuple[Path, str]:
    path = tmp_path / "m.safetensors"
    return path, write_checkpoint(path, start.classifier.state_dict(), make_card(start))


def images() -> torch.Tensor:
    return torch.randn(3, 3, 16, 16, generator=torch.Generator().manual_seed(1))


def test_a_saved_model_gives_the_same_logits(start: Start, saved: tuple[Path, str]) -> None:
    path, sha256 = saved
    classifier, card = load_classifier(path, sha256=sha256, architecture=start.architecture, classes=CLASSES)
    assert torch.equal(classifier(images()), start.classifier(images()))
    assert card == make_card(start) == read_card(path)
    assert not classifier.training
    assert all(parameter.requires_grad and parameter.device.type == "cpu" for parameter in classifier.parameters())


def test_a_loaded_model_shares_no_memory_with_the_file(start: Start, saved: tuple[Path, str]) -> None:
    path, _ = saved
    classifier, _ = load_classifier(path)
    with path.open("r+b") as stream:
        stream.seek(-4000, 2)
        stream.write(bytes(4000))
    assert torch.equal(classifier(images()), start.classifier(images()))


def test_a_saved_timm_model_gives_the_same_logits(tmp_path: Path) -> None:
    start = build_start(ModelSettings(model="timm:test_resnet", pretrained="none"), CLASSES, seed=0)
    write_checkpoint(tmp_path / "m.safetensors", start.classifier.state_dict(), make_card(start))
    classifier, _ = load_classifier(tmp_path / "m.safetensors")
    pictures = torch.randn(2, 3, 64, 64)
    assert torch.equal(classifier(pictures), start.classifier(pictures))


@pytest.mark.parametrize("name", ["test_vit_relpos", "test_maxvit", "test_coatnet"])
def test_buffers_outside_checkpoints_are_computed(tmp_path: Path, name: str) -> None:
    """Relative position tables are buffers that are not saved; a network built without storage lacks them."""
    start = build_start(ModelSettings(model=f"timm:{name}", pretrained="none"), CLASSES, seed=0)
    write_checkpoint(tmp_path / "m.safetensors", start.classifier.state_dict(), make_card(start))
    classifier, _ = load_classifier(tmp_path / "m.safetensors")
    pictures = torch.randn(1, 3, start.preprocessing.size, start.preprocessing.size)
    assert torch.equal(classifier(pictures), start.classifier(pictures))


def test_a_changed_file_is_refused(saved: tuple[Path, str]) -> None:
    path, _ = saved
    with pytest.raises(DataError, match=r"m\.safetensors: changed since it was logged"):
        load_classifier(path, sha256="0" * 64)


def test_the_error_for_another_class_list_names_both(saved: tuple[Path, str]) -> None:
    with pytest.raises(DataError) as caught:
        load_classifier(saved[0], classes=("cat", "dog"))
    message = str(caught.value)
    assert "m.safetensors: a checkpoint of another class list" in message
    assert "expected: 2 classes: cat, dog\n" in message and "found:    3 classes: cat, dog, eel" in message


def test_the_error_says_if_only_the_order_of_the_classes_differs(saved: tuple[Path, str]) -> None:
    with pytest.raises(DataError, match="the same classes in another order"):
        load_classifier(saved[0], classes=("dog", "cat", "eel"))


def test_the_error_for_another_architecture_names_both(saved: tuple[Path, str]) -> None:
    expected = Architecture(family="open_clip", name="ViT-B-32-quickgelu", quick_gelu=True)
    with pytest.raises(
        DataError, match=r"another architecture\n  expected: open_clip ViT-B-32-quickgelu\n  found: .*custom"
    ):
        load_classifier(saved[0], architecture=expected)


def test_a_card_with_more_classes_than_the_head_is_refused(start: Start, tmp_path: Path) -> None:
    card = make_card(start, classes=(*CLASSES, "fox"))
    write_checkpoint(tmp_path / "m.safetensors", start.classifier.state_dict(), card)
    with pytest.raises(DataError, match=r"its head does not fit its class list(.|\n)*4 classes(.|\n)*shape \(3, 8\)"):
        load_classifier(tmp_path / "m.safetensors")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: {k: v for k, v in state.items() if k != "head.bias"}, "lacks 'head.bias'"),
        (lambda state: state | {"extra": torch.ones(1)}, "has also 'extra'"),
        (lambda state: state | {"backbone.proj": torch.ones(1, 1)}, r"'backbone.proj' of shape \(1, 1\)"),
    ],
)
def test_weights_that_do_not_fit_the_card_are_named(start: Start, tmp_path: Path, change: Any, message: str) -> None:
    write_checkpoint(tmp_path / "m.safetensors", change(start.classifier.state_dict()), make_card(start))
    with pytest.raises(DataError, match=rf"m\.safetensors: its weights do not fit custom(.|\n)*{message}"):
        load_classifier(tmp_path / "m.safetensors")


def test_a_card_of_a_huge_network_is_refused_before_memory_is_allocated(start: Start, tmp_path: Path) -> None:
    config = json.loads(compact_json(start.architecture.config))
    config["vision_cfg"] |= {"width": 60_000, "head_width": 60_000}  # 14 GB for each of the larger matrices.
    card = make_card(start, architecture=start.architecture.model_copy(update={"config": config}))
    write_checkpoint(tmp_path / "m.safetensors", start.classifier.state_dict(), card)
    with pytest.raises(DataError, match="its weights do not fit custom"):
        load_classifier(tmp_path / "m.safetensors")


def test_a_file_without_card_needs_an_architecture(tmp_path: Path) -> None:
    save_file({"visual.proj": torch.ones(2, 2)}, tmp_path / "m.safetensors")
    with pytest.raises(
        DataError, match=r"m\.safetensors: has no card that says its architecture(.|\n)*--pretrained FILE"
    ):
        load_classifier(tmp_path / "m.safetensors")
