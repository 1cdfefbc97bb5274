"""Fixtures for all tests: tiny images whose classes are colours, and a tiny CLIP in open_clip's folder format."""

import gc
import importlib.util
import json
import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

pytest_plugins = ["tests.toy_runs"]

COLOURS = {"blue": (40, 60, 220), "green": (40, 200, 60), "red": (220, 50, 40)}
TINY_CLIP = {
    "embed_dim": 8,
    "vision_cfg": {"image_size": 16, "layers": 1, "width": 32, "head_width": 16, "patch_size": 8},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 16, "heads": 1, "layers": 1},
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip the second tier unless `scripts/test.sh --all` runs it."""
    if not os.environ.get("SOUPS_ALL"):
        for item in items:
            if item.get_closest_marker("second_tier"):
                item.add_marker(pytest.mark.skip(reason="second tier: bash scripts/test.sh --all"))


@pytest.fixture(autouse=True)
def _heard_notices(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `caplog` record the package's notices, whatever logging an earlier command of this process set up."""
    monkeypatch.setattr(logging.getLogger("soups"), "propagate", True)
    monkeypatch.setattr(logging.getLogger("soups"), "level", logging.NOTSET)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Give each session its own cache and an environment without SageMaker variables."""
    monkeypatch.setenv("SOUPS_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
    for variable in ("SM_CHANNEL_TRAIN", "SM_MODEL_DIR", "SM_CHANNEL_MODEL", "SM_CHANNEL_EVAL"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.delenv("WANDB_MODE", raising=False)


@pytest.fixture
def hide_packages(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """A function that lets packages look as if they were not installed."""
    find_spec = importlib.util.find_spec

    def hide(*names: str) -> None:
        monkeypatch.setattr(
            importlib.util, "find_spec", lambda name, *more: None if name in names else find_spec(name, *more)
        )

    return hide


def make_image(path: Path, colour: tuple[int, int, int], generator: np.random.Generator, noise: int = 60) -> None:
    """Write a noisy 20 × 18 image of one colour."""
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.clip(np.array(colour) + generator.integers(-noise, noise, (18, 20, 3)), 0, 255).astype(np.uint8)
    Image.fromarray(pixels).save(path)


def make_data(root: Path, people: int = 4, test_people: int = 2, seed: int = 0) -> Path:
    """Write `train/<colour>/p<person>_<n>.png`, `test/…` and two shift sets; groups are persons."""
    generator = np.random.default_rng(seed)
    for name, colour in COLOURS.items():
        for person in range(people + test_people):
            for number in range(3):
                split = "train" if person < people else "test"
                file = f"{name}/p{person}_{number}.png"
                make_image(root / split / file, colour, generator)
                if split == "test":
                    make_image(root / "shifts" / "noisy" / file, colour, generator, noise=140)
                    dark = tuple(value // 2 for value in colour)
                    make_image(root / "shifts" / "dark" / file, dark, generator)  # type: ignore[arg-type]
    return root


@pytest.fixture(scope="session")
def toy_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of toy images; read-only."""
    return make_data(tmp_path_factory.mktemp("toys") / "colours")


@pytest.fixture(scope="session")
def tiny_clip(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A CLIP with random weights as a folder that open_clip loads; read-only."""
    import open_clip
    import torch
    from safetensors.torch import save_file

    folder = tmp_path_factory.mktemp("tiny-clip")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = open_clip.model.CLIP(**TINY_CLIP)
    config = {
        "model_cfg": TINY_CLIP,
        "preprocess_cfg": {"mean": [0.5] * 3, "std": [0.25] * 3, "interpolation": "bicubic", "resize_mode": "shortest"},
    }
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    save_file(
        {key: value.contiguous() for key, value in model.state_dict().items()}, folder / "open_clip_model.safetensors"
    )
    # Accelerate collects garbage after each fine-tune; among all loaded objects that takes longer than a toy fine-tune.
    gc.freeze()
    yield folder
    gc.unfreeze()
