"""Averages of files against the obvious mean of their tensors."""

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch

import soups
from soups.checkpoints import Architecture, Card, read_card, read_state, write_checkpoint
from soups.errors import DataError, UsageError
from soups.preprocessing import Preprocessing
from soups.records import sha256_of


def card(**changes: object) -> Card:
    values = {
        "kind": "fine-tune",
        "architecture": Architecture(family="timm", name="toy"),
        "classes": ("cat", "dog"),
        "preprocessing": Preprocessing(size=4, mean=(0, 0, 0), std=(1, 1, 1)),
        "training": {"index": 0},
        "scores": {"val": {"accuracy": 0.5}},
    }
    return Card.model_validate(values | changes)


@pytest.fixture
def models(tmp_path: Path) -> list[Path]:
    paths = []
    for number in range(4):
        generator = torch.Generator().manual_seed(number)
        state = {"w": torch.randn(3, 5, generator=generator), "steps": torch.tensor(number)}
        paths.append(tmp_path / f"model{number}.safetensors")
        write_checkpoint(paths[-1], state, card())
    return paths


@pytest.mark.parametrize("weights", [None, [1.0, 2.0, 0.0, 5.0]])
def test_is_the_weighted_mean(models: list[Path], weights: list[float] | None) -> None:
    soup = soups.average(models, weights)
    tensors = np.stack([read_state(path)["w"].double().numpy() for path in models])
    expected = np.average(tensors, axis=0, weights=weights)
    assert np.array_equal(soup.state["w"].numpy(), expected.astype(np.float32))
    assert soup.state["steps"].dtype == torch.int64


def test_bytes_do_not_depend_on_the_order(models: list[Path], tmp_path: Path) -> None:
    digests = set()
    for order in itertools.permutations(range(4)):
        digests.add(soups.average([models[index] for index in order]).save(tmp_path / "soup.safetensors"))
    assert len(digests) == 1


def test_the_card_tells_the_ingredients(models: list[Path], tmp_path: Path) -> None:
    soups.average(models[:2], [1, 3]).save(tmp_path / "soup.safetensors")
    told = read_card(tmp_path / "soup.safetensors")
    assert told is not None and told.soup is not None
    assert told.kind == "soup" and told.training == {} and told.scores == {}
    parts = {part.name: (part.sha256, part.coefficient) for part in told.soup.ingredients}
    assert parts == {"model0": (sha256_of(models[0]), 0.25), "model1": (sha256_of(models[1]), 0.75)}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"classes": ("dog", "cat")}, "another list of classes"),
        ({"architecture": Architecture(family="timm", name="toy2")}, "another architecture"),
        ({"preprocessing": Preprocessing(size=5, mean=(0, 0, 0), std=(1, 1, 1))}, "another preprocessing"),
    ],
)
def test_models_that_do_not_belong_together(
    models: list[Path], tmp_path: Path, changes: dict[str, object], words: str
) -> None:
    stranger = tmp_path / "stranger.safetensors"
    write_checkpoint(stranger, read_state(models[0]), card(**changes))
    with pytest.raises(DataError, match=words):
        soups.average([models[0], stranger])


def test_tensors_that_do_not_fit(models: list[Path], tmp_path: Path) -> None:
    stranger = tmp_path / "stranger.safetensors"
    write_checkpoint(stranger, {"w": torch.zeros(3, 4), "steps": torch.tensor(0)}, card())
    with pytest.raises(DataError, match=r"tensor 'w' does not fit"):
        soups.average([models[0], stranger])


def test_what_is_no_model(models: list[Path], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="at least one path"):
        soups.average([])
    with pytest.raises(UsageError, match="one weight for each"):
        soups.average(models, [1.0])
    with pytest.raises(UsageError, match="a sum above zero"):
        soups.average(models[:2], [1.0, -1.0])
    with pytest.raises(DataError, match="no such file"):
        soups.average([tmp_path / "none.safetensors"])
