"""Names, tags, quick-GELU, preprocessing and folders of open_clip; unreachable weights."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image

from soups.core.errors import DataError, EnvironmentFailure, UsageError
from soups.core.preprocessing import Preprocessing, normalise
from soups.models.build import build_start, describe
from soups.models.open_clip.names import evaluation_preprocessing, exact_name, resolve_source
from soups.models.settings import ModelSettings

CLASSES = ("cat", "polar_bear", "zero {}")


@pytest.mark.parametrize(
    ("written", "exact"),
    [
        ("ViT-B/32", "ViT-B-32"),
        ("ViT-B-32", "ViT-B-32"),
        ("vit-b-16", "ViT-B-16"),
        ("ViT-L/14", "ViT-L-14"),
        ("ViT-L/14@336px", "ViT-L-14-336"),
        ("RN50x4", "RN50x4"),
        ("convnext_base_w", "convnext_base_w"),
    ],
)
def test_other_spellings_of_a_name_are_accepted(written: str, exact: str) -> None:
    assert exact_name(written) == exact


def test_every_architecture_of_open_clip_is_known_and_has_preprocessing() -> None:
    for name in open_clip.list_models():
        source = resolve_source(ModelSettings(model=name))
        assert source.name in {name, f"{name}-quickgelu"}
        assert evaluation_preprocessing(source).size == open_clip.get_model_config(name)["vision_cfg"].get(
            "image_size", 224
        )


def test_a_name_of_timm_gets_its_prefix() -> None:
    with pytest.raises(UsageError, match=r"a name of timm(?s:.*)write --model timm:resnet50"):
        exact_name("resnet50")


def test_the_error_for_an_unknown_name_lists_only_similar_names() -> None:
    with pytest.raises(UsageError) as caught:
        exact_name("ViT-B/33")
    message = str(caught.value)
    assert message.startswith("--model ViT-B/33: open_clip has no such architecture")
    assert "did you mean ViT-B-32" in message and "list_models()" in message
    assert len(message) < 500


@pytest.mark.parametrize(
    ("model", "pretrained", "name", "tag", "quick"),
    [
        ("ViT-B/32", None, "ViT-B-32-quickgelu", "openai", True),
        ("ViT-B-32-quickgelu", None, "ViT-B-32-quickgelu", "openai", True),
        ("ViT-B/32", "openai", "ViT-B-32-quickgelu", "openai", True),
        ("ViT-B/32", "laion2b-s34b-b79k", "ViT-B-32", "laion2b_s34b_b79k", False),
        ("ViT-B/32", "metaclip_400m", "ViT-B-32-quickgelu", "metaclip_400m", True),
        ("ViT-L/14", None, "ViT-L-14-quickgelu", "openai", True),
        ("RN50", None, "RN50-quickgelu", "openai", True),
        ("ViT-g-14", None, "ViT-g-14", "laion2b_s12b_b42k", False),
        ("ViT-B/32", "none", "ViT-B-32", None, False),
        ("ViT-M-32", None, "ViT-M-32", None, False),
    ],
)
def test_the_tag_decides_the_activation(
    model: str, pretrained: str | None, name: str, tag: str | None, quick: bool
) -> None:
    source = resolve_source(ModelSettings(model=model, pretrained=pretrained))
    assert (source.name, source.tag, source.architecture.quick_gelu) == (name, tag, quick)


def test_every_quick_gelu_tag_gets_a_quick_gelu_architecture() -> None:
    for name, tag in open_clip.list_pretrained():
        source = resolve_source(ModelSettings(model=name, pretrained=tag))
        expected = (
            open_clip.get_pretrained_cfg(name, tag).get("quick_gelu") or name == "roberta-ViT-B-32"
        )  # Says its configuration.
        assert source.architecture.quick_gelu == bool(expected), (name, tag)


def test_the_error_for_an_unknown_tag_lists_the_tags() -> None:
    with pytest.raises(UsageError, match=r"--pretrained opnai: neither a file nor a tag(.|\n)*did you mean 'openai'"):
        resolve_source(ModelSettings(pretrained="opnai"))


def test_the_log_names_the_chosen_weights(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="soups")
    resolve_source(ModelSettings(model="ViT-M-32"))
    resolve_source(ModelSettings(model="ViT-g-14"))
    assert "no weights for this architecture; starting from random weights" in caplog.text
    assert "using --pretrained laion2b_s12b_b42k; others: laion2b_s34b_b88k" in caplog.text


def test_unreachable_weights_are_an_environment_failure(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(EnvironmentFailure) as caught:
        build_start(ModelSettings(), CLASSES, seed=0)
    message = str(caught.value)
    assert message.startswith("could not fetch the weights of ViT-B-32-quickgelu, tag openai")
    assert "--pretrained FILE" in message and "offline" in message
    assert not caplog.records


def folder_settings(folder: Path, **changes: Any) -> ModelSettings:
    return ModelSettings(model=f"local-dir:{folder}", **changes)


def picture(width: int, height: int) -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def inputs(image: Image.Image, preprocessing: Preprocessing) -> torch.Tensor:
    """Returns the preprocessed image, computed step by step with Pillow."""
    filters = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}
    side, size = round(preprocessing.size / preprocessing.crop_fraction), preprocessing.size
    scale = side / min(image.size)
    shape = (side, side) if preprocessing.resize == "squash" else tuple(int(scale * length) for length in image.size)
    image = image.resize(shape, filters[preprocessing.interpolation])
    left, top = (round((length - size) / 2) for length in image.size)
    pixels = np.asarray(image)[top : top + size, left : left + size]
    return normalise(torch.from_numpy(pixels.copy())[None], preprocessing)


@pytest.mark.parametrize(
    "name", ["ViT-B-32", "ViT-B-16-SigLIP", "MobileCLIP-S1", "ViT-L-14-CLIPA", "RN50x4", "ViT-H-14-378"]
)
@pytest.mark.parametrize("shape", [(40, 30), (300, 400), (224, 224)])
def test_preprocessing_equals_that_of_open_clip(name: str, shape: tuple[int, int]) -> None:
    source = resolve_source(ModelSettings(model=name))
    config = source.preprocess
    preprocessing = evaluation_preprocessing(source)
    own = open_clip.image_transform(
        preprocessing.size,
        is_train=False,
        mean=config["mean"],
        std=config["std"],
        interpolation=config["interpolation"],
        resize_mode=config["resize_mode"],
    )
    torch.testing.assert_close(inputs(picture(*shape), preprocessing)[0], own(picture(*shape)), atol=1e-6, rtol=0)


def test_preprocessing_of_a_folder_is_read_from_its_configuration(tiny_clip: Path, tmp_path: Path) -> None:
    _, preprocessing = describe(folder_settings(tiny_clip))
    assert preprocessing == Preprocessing(size=16, mean=(0.5,) * 3, std=(0.25,) * 3)
    config = json.loads((tiny_clip / "open_clip_config.json").read_text())
    config["preprocess_cfg"]["resize_mode"] = "longest"
    (tmp_path / "open_clip_config.json").write_text(json.dumps(config))
    with pytest.raises(UsageError, match=r"its preprocessing is not supported(.|\n)*longest"):
        describe(folder_settings(tmp_path, pretrained="none"))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (None, None, "no such folder"),
        ("x", "{}", r"open_clip_config\.json: no such file"),
        ("open_clip_config.json", "{", "not readable JSON"),
        ("open_clip_config.json", '{"model_cfg": {"embed_dim": NaN}}', "not readable JSON"),
        ("open_clip_config.json", "[]", "not open_clip's\n  expected: `model_cfg`"),
        ("open_clip_config.json", '{"model_cfg": {"embed_dim": 8}}', "not open_clip's"),
    ],
)
def test_folders_without_valid_configuration_are_refused(
    tmp_path: Path, name: str | None, content: str, message: str
) -> None:
    folder = tmp_path / "clip"
    if name is not None:
        folder.mkdir()
        (folder / name).write_text(content)
    with pytest.raises(DataError, match=message):
        build_start(folder_settings(folder), CLASSES, seed=0)
