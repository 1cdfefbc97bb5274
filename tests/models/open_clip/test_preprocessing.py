"""open_clip's own inputs from our preprocessing, and architectures that cannot be built."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image

from soups.checkpoints.card import Architecture
from soups.core.errors import DataError, UsageError
from soups.core.preprocessing import Preprocessing, normalise
from soups.models.build import build_empty, describe
from soups.models.open_clip import names as clip_names
from soups.models.open_clip.names import evaluation_preprocessing, resolve_source
from soups.models.settings import ModelSettings

CLASSES = ("cat", "polar_bear", "zero {}")


def folder_settings(folder: Path, **changes: Any) -> ModelSettings:
    return ModelSettings(model=f"local-dir:{folder}", **changes)


def picture(width: int, height: int) -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def inputs(image: Image.Image, preprocessing: Preprocessing) -> torch.Tensor:
    """What the fields of a Preprocessing say, step by step, by Pillow."""
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
def test_preprocessing_gives_open_clips_own_input(name: str, shape: tuple[int, int]) -> None:
    source = resolve_source(ModelSettings(model=name))
    config = clip_names.resolve_source(ModelSettings(model=name)).preprocess
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


def test_preprocessing_of_a_folder_is_its_own(tiny_clip: Path, tmp_path: Path) -> None:
    _, preprocessing = describe(folder_settings(tiny_clip))
    assert preprocessing == Preprocessing(size=16, mean=(0.5,) * 3, std=(0.25,) * 3)
    config = json.loads((tiny_clip / "open_clip_config.json").read_text())
    config["preprocess_cfg"]["resize_mode"] = "longest"
    (tmp_path / "open_clip_config.json").write_text(json.dumps(config))
    with pytest.raises(UsageError, match=r"its preprocessing is not supported(.|\n)*longest"):
        describe(folder_settings(tmp_path, pretrained="none"))


@pytest.mark.parametrize(
    "architecture",
    [
        Architecture(family="elsewhere", name="x"),
        Architecture(family="open_clip", name="ViT-Z-99"),
        Architecture(family="open_clip", name="ViT-B-32", quick_gelu=True, config=None),
        Architecture(family="open_clip", name="custom"),
        Architecture(family="open_clip", name="custom", config={"embed_dim": 8}),
        Architecture(family="open_clip", name="custom", config={"embed_dim": 8, "vision_cfg": {"layers": 10**9}}),
        Architecture(family="open_clip", name="custom", config={"embed_dim": 10**12, "vision_cfg": {}}),
        Architecture(family="open_clip", name="custom", config={"embed_dim": 8, "vision_cfg": {"surprise": 1}}),
        Architecture(
            family="open_clip",
            name="custom",
            config={"embed_dim": 8, "vision_cfg": {"timm_model_name": "hf-hub:someone/something"}},
        ),
        Architecture(family="timm", name="hf-hub:someone/something"),
        Architecture(family="timm", name="no_such_net"),
    ],
)
def test_architectures_that_cannot_be_built(architecture: Architecture) -> None:
    with pytest.raises(DataError, match=r"architecture '.*'"):
        build_empty(architecture, CLASSES)
