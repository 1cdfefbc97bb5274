"""Hub folders of open_clip: loaded by open_clip alone, and loaded by this package."""

import json
from pathlib import Path

import numpy as np
import torch

from soups.checkpoints.card import Card
from soups.models.build import build_start
from soups.models.hub_folder import load_anywhere, write_hub_folder
from soups.models.settings import ModelSettings
from tests.models.hub_folders import CLASSES, assert_library_gives_the_logits, build_model, compute_logits


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
