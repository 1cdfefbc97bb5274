"""Hub folders: loaded by timm and open_clip alone, and loaded by this package."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from soups.checkpoints.card import Card
from soups.core.errors import DataError, EnvironmentFailure
from soups.core.preprocessing import normalise
from soups.data.images.geometry import evaluation_geometry, resize_and_crop
from soups.models import hub_folder
from soups.models.build import build_start
from soups.models.classifier import Classifier
from soups.models.hub_folder import CARD_FILE, find_format, load_anywhere, load_hub_folder, write_hub_folder
from soups.models.settings import ModelSettings

CLASSES = ("cat", "dog/old", "bird")
TIMM = ("test_vit", "test_resnet", "test_convnext", "test_efficientnet", "deit_tiny_distilled_patch16_224")


def build_model(model: str, **more: object) -> tuple[Classifier, Card]:
    """Returns a network with random weights, including those and the bias of its head."""
    weights = {} if model.startswith("local-dir:") else {"pretrained": "none"}
    start = build_start(ModelSettings.model_validate({"model": model, **weights, **more}), CLASSES, seed=3)
    generator = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for parameter in start.classifier.head.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    card = Card(
        kind="fine-tune",
        architecture=start.architecture,
        classes=CLASSES,
        preprocessing=start.preprocessing,
        scores={"val": {"accuracy": 0.5}},
        training={"precision": "fp32"},
    )
    return start.classifier, card


def compute_logits(classifier: Classifier, card: Card, paths: list[Path]) -> np.ndarray:
    """Returns the logits of image files, computed by this package."""
    geometry = evaluation_geometry(card.preprocessing)
    pixels = np.stack([resize_and_crop(np.array(Image.open(path).convert("RGB")), geometry) for path in paths])
    with torch.inference_mode():
        return classifier(normalise(torch.from_numpy(pixels), card.preprocessing)).numpy()


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Returns image files that are not square."""
    folder, generator = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    for index, shape in enumerate([(190, 260, 3), (301, 200, 3)]):
        Image.fromarray(generator.integers(0, 256, shape, dtype=np.uint8)).save(folder / f"{index}.png")
    return sorted(folder.iterdir())


def assert_library_gives_the_logits(classifier: Classifier, card: Card, folder: Path, pictures: list[Path]) -> None:
    expected = compute_logits(classifier, card, pictures)
    for row, path in zip(expected, pictures, strict=True):
        with Image.open(path) as picture:
            found = find_format(card, "it").reference_logits(folder, picture)
        assert found.shape == (1, 3) and found.dtype == np.float32
        np.testing.assert_allclose(found[0], row, atol=1e-5 * max(1.0, np.abs(expected).max()))


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


def test_open_clip_alone_gives_the_same_logits(tiny_clip: Path, tmp_path: Path, pictures: list[Path]) -> None:
    classifier, card = build_model(f"local-dir:{tiny_clip}")
    write_hub_folder(tmp_path, classifier, card, "it")
    assert_library_gives_the_logits(classifier, card, tmp_path, pictures)
    with torch.inference_mode():
        features = classifier.features(torch.randn(2, 3, 16, 16))
    torch.testing.assert_close(features.norm(dim=1), torch.ones(2))
    again, same = load_anywhere(f"local-dir:{tmp_path}")
    assert same == card
    assert np.array_equal(compute_logits(again, same, pictures), compute_logits(classifier, card, pictures))


def test_quick_gelu_and_resnet_towers_are_written(tmp_path: Path, pictures: list[Path]) -> None:
    config = {
        "embed_dim": 8,
        "quick_gelu": True,
        "vision_cfg": {"image_size": 32, "layers": [1, 1, 1, 1], "width": 8, "patch_size": None},
        "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 16, "heads": 1, "layers": 1},
    }
    clip = tmp_path / "clip"
    clip.mkdir()
    (clip / "open_clip_config.json").write_text(json.dumps({"model_cfg": config}))
    start = build_start(ModelSettings(model=f"local-dir:{clip}", pretrained="none", head="random"), CLASSES, seed=0)
    assert start.architecture.quick_gelu
    card = Card(kind="start", architecture=start.architecture, classes=CLASSES, preprocessing=start.preprocessing)
    (tmp_path / "out").mkdir()
    write_hub_folder(tmp_path / "out", start.classifier, card, "it")
    assert_library_gives_the_logits(start.classifier, card, tmp_path / "out", pictures)


def test_the_usage_runs_without_this_project(tiny_clip: Path, tmp_path: Path, pictures: list[Path]) -> None:
    models = {name: build_model(name) for name in ("timm:test_vit", f"local-dir:{tiny_clip}")}
    program = "import json, sys\n"
    for number, (classifier, card) in enumerate(models.values()):
        folder = tmp_path / str(number)
        folder.mkdir()
        write_hub_folder(folder, classifier, card, "it")
        program += find_format(card, "it").usage.replace("FOLDER", str(folder)).replace("IMAGE", str(pictures[0]))
        program += "print(json.dumps(logits.tolist()))\n"
    program += "assert 'soups' not in sys.modules\n"
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    command = [sys.executable, "-W", "ignore", "-c", program]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for line, (classifier, card) in zip(done.stdout.splitlines(), models.values(), strict=True):
        np.testing.assert_allclose(json.loads(line), compute_logits(classifier, card, pictures[:1]), atol=1e-5)


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


def test_folders_without_a_model_are_refused(tmp_path: Path, tiny_clip: Path) -> None:
    with pytest.raises(DataError, match=r"holds no classifier(.|\n)*nothing"):
        load_anywhere(str(tmp_path))
    with pytest.raises(DataError, match=r"a CLIP, which has no classes(.|\n)*fine-tune it"):
        load_anywhere(str(tiny_clip))
    with pytest.raises(DataError, match=r"no such file or folder(.|\n)*hf-hub:someone/soup"):
        load_anywhere("someone/soup")
    (tmp_path / CARD_FILE).write_text("{}")
    with pytest.raises(DataError, match=r"soups_card\.json: a card of another version"):
        load_anywhere(str(tmp_path))


def test_a_family_without_hub_layout_is_refused(tmp_path: Path) -> None:
    classifier, card = build_model("timm:test_vit")
    other = card.model_copy(update={"architecture": card.architecture.model_copy(update={"family": "home-made"})})
    with pytest.raises(DataError, match=r"no other library builds(.|\n)*home-made"):
        write_hub_folder(tmp_path, classifier, other, "it")
    assert not list(tmp_path.iterdir())


def test_an_unreachable_hub_is_an_environment_failure(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(hub_folder.hub, "SECONDS_TO_ANSWER", 0.5)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(EnvironmentFailure, match=r"could not fetch hf-hub:someone/soup(.|\n)*hf auth login"):
        load_anywhere("hf-hub:someone/soup")
    with pytest.raises(DataError, match=r"not a name on the hub(.|\n)*hf-hub:org/name"):
        load_anywhere("hf-hub:some one/soup/more")
