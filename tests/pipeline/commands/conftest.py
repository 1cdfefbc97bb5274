"""A soup's checkpoint that belongs to no run, shared by the tests of push and export."""

from pathlib import Path

import pytest

from soups.checkpoints.card import IngredientCard, SoupCard
from soups.checkpoints.checkpoint import Card, write_checkpoint
from soups.models.build import build_start
from soups.models.settings import ModelSettings

CLASSES = ("blue", "green", "re|d")


@pytest.fixture(scope="session")
def soup(tiny_clip: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint that belongs to no run."""
    start = build_start(ModelSettings(model=f"local-dir:{tiny_clip}"), CLASSES, seed=0)
    card = Card(
        kind="soup",
        architecture=start.architecture,
        classes=CLASSES,
        preprocessing=start.preprocessing,
        scores={"val": {"accuracy": 0.9375, "log_loss": 0.25}},
        training={"precision": "fp32", "threads": 1},
        soup=SoupCard(recipe="greedy", ingredients=(IngredientCard(name="a0", sha256="ab" * 32, coefficient=1.0),)),
    )
    path = tmp_path_factory.mktemp("models") / "my_soup.safetensors"
    write_checkpoint(path, start.classifier.state_dict(), card)
    return path
