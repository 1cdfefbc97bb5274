"""Averages of files against the obvious mean of their tensors."""

import itertools
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import soups
from soups.checkpoints.average import check_cards, find_card_mismatches
from soups.checkpoints.card import Architecture, Card, read_card
from soups.checkpoints.checkpoint import read_state, write_checkpoint
from soups.core.errors import DataError, UsageError
from soups.core.preprocessing import Preprocessing
from soups.files.atomic import sha256_of


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
def test_average_is_the_weighted_mean(models: list[Path], weights: list[float] | None) -> None:
    soup = soups.average(models, weights)
    tensors = np.stack([read_state(path)["w"].double().numpy() for path in models])
    expected = np.average(tensors, axis=0, weights=weights)
    assert np.array_equal(soup.state["w"].numpy(), expected.astype(np.float32))
    assert soup.state["steps"].dtype == torch.int64


def test_the_bytes_do_not_depend_on_the_order_of_the_models(models: list[Path], tmp_path: Path) -> None:
    digests = set()
    for order in itertools.permutations(range(4)):
        digests.add(soups.average([models[index] for index in order]).save(tmp_path / "soup.safetensors"))
    assert len(digests) == 1


def test_the_card_lists_the_ingredients(models: list[Path], tmp_path: Path) -> None:
    soups.average(models[:2], [1, 3]).save(tmp_path / "soup.safetensors")
    card_of_soup = read_card(tmp_path / "soup.safetensors")
    assert card_of_soup is not None and card_of_soup.soup is not None
    assert card_of_soup.kind == "soup" and card_of_soup.training == {} and card_of_soup.scores == {}
    parts = {part.name: (part.sha256, part.coefficient) for part in card_of_soup.soup.ingredients}
    assert parts == {"model0": (sha256_of(models[0]), 0.25), "model1": (sha256_of(models[1]), 0.75)}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"classes": ("dog", "cat")}, "another list of classes"),
        ({"architecture": Architecture(family="timm", name="toy2")}, "another architecture"),
        ({"preprocessing": Preprocessing(size=5, mean=(0, 0, 0), std=(1, 1, 1))}, "another preprocessing"),
    ],
)
def test_models_with_different_cards_are_rejected(
    models: list[Path], tmp_path: Path, changes: dict[str, object], words: str
) -> None:
    stranger = tmp_path / "stranger.safetensors"
    write_checkpoint(stranger, read_state(models[0]), card(**changes))
    with pytest.raises(DataError, match=f"stranger.safetensors: {words} than .*model0.safetensors\n"):
        soups.average([models[0], stranger])
    with pytest.raises(DataError, match=f"stranger.safetensors: {words} than .*model1.safetensors\n"):
        soups.average([stranger, *models[1:]])


def test_models_with_different_tensors_are_rejected(models: list[Path], tmp_path: Path) -> None:
    stranger = tmp_path / "stranger.safetensors"
    write_checkpoint(stranger, {"w": torch.zeros(3, 4), "steps": torch.tensor(0)}, card())
    with pytest.raises(DataError, match=r"tensor 'w' does not fit"):
        soups.average([models[0], stranger])


def test_invalid_arguments_and_files_are_rejected(models: list[Path], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="at least one path"):
        soups.average([])
    with pytest.raises(UsageError, match="one weight for each"):
        soups.average(models, [1.0])
    with pytest.raises(UsageError, match="a sum above zero"):
        soups.average(models[:2], [1.0, -1.0])
    with pytest.raises(DataError, match="no such file"):
        soups.average([tmp_path / "none.safetensors"])


def test_cards_are_compared_with_the_most_common_one() -> None:
    wide = Preprocessing(size=5, mean=(0, 0, 0), std=(1, 1, 1))
    cards = [card(classes=("cat", "cow")), card(), card(preprocessing=wide), card(training={"index": 7})]
    names = ["cows", "good", "wide", "also good"]
    by_name = dict(zip(names, cards, strict=True))
    assert find_card_mismatches(by_name) == {
        "cows": "it has another list of classes than good: expected 2 classes: cat, dog, found 2 classes: cat, cow",
        "wide": "it has another preprocessing than good: expected size 4, found size 5",
    }
    with pytest.raises(DataError) as caught:
        check_cards(by_name)
    assert str(caught.value).startswith(
        "cows: another list of classes than good, and 1 other does not fit either\n"
        "  expected: 2 classes: cat, dog\n"
        "  found:    2 classes: cat, cow\n"
    )
    check_cards({"good": cards[1], "also good": cards[3]})
    assert find_card_mismatches({}) == {}


def test_long_lists_of_classes_are_shortened_in_messages() -> None:
    many = tuple(f"class{number}" for number in range(1000))
    (sentence,) = find_card_mismatches({"a": card(classes=many), "b": card(classes=many[:-1])}).values()
    assert "expected 1000 classes: class0, class1, " in sentence and "found 999 classes: class0" in sentence
    assert len(sentence) < 500


def test_a_model_given_twice_is_rejected(models: list[Path], tmp_path: Path) -> None:
    copy = tmp_path / "copy.safetensors"
    copy.write_bytes(models[1].read_bytes())
    with pytest.raises(DataError, match=r"model1.safetensors and .*copy.safetensors are the same model twice"):
        soups.average([*models, copy])
    with pytest.raises(DataError, match=r"model2.safetensors: given twice\n  expected: each model once"):
        soups.average([models[2], models[0], models[2]])


def test_models_with_nan_are_rejected(models: list[Path]) -> None:
    for value, word in (float("nan"), "NaN"), (float("-inf"), "infinity"):
        state = read_state(models[2]) | {"w": torch.full((3, 5), value)}
        write_checkpoint(models[2], state, card())
        with pytest.raises(DataError, match=rf"model2.safetensors: tensor 'w' holds {word}"):
            soups.average(models)


def test_a_prefix_of_all_names_is_removed(models: list[Path], tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    expected = soups.average(models).state
    state = {f"_orig_mod.module.{key}": tensor for key, tensor in read_state(models[0]).items()}
    write_checkpoint(models[0], state, card())
    with caplog.at_level("INFO"):
        found = soups.average(models).state
    assert found.keys() == expected.keys() and torch.equal(found["w"], expected["w"])
    assert "model0.safetensors: the prefix '_orig_mod.module.' of all its tensors' names is removed" in caplog.text


def test_the_card_says_where_integers_come_from(models: list[Path], tmp_path: Path) -> None:
    soup = soups.average(models)
    first = min(models, key=sha256_of)
    assert soup.state["steps"] == read_state(first)["steps"]
    assert soup.card.soup is not None and soup.card.soup.integers == "taken from the first ingredient by hash"
    write_checkpoint(tmp_path / "plain.safetensors", {"w": torch.ones(2)}, card())
    plain = soups.average([tmp_path / "plain.safetensors"]).card.soup
    assert plain is not None and plain.integers == ""


MEMORY_SCRIPT = """
import re, sys, threading
from pathlib import Path
import soups
import soups.checkpoints.average

def private() -> int:
    return 1024 * int(re.search(r"Anonymous: *([0-9]+)", Path("/proc/self/smaps_rollup").read_text())[1])

def most_in_use() -> int:
    before, seen, done = private(), [], threading.Event()
    def watch() -> None:
        while not done.wait(0.0005):
            seen.append(private())
    watcher = threading.Thread(target=watch)
    watcher.start()
    soup = soups.average(sys.argv[1:])
    seen.append(private())
    done.set()
    watcher.join()
    return max(seen) - before

soups.average(sys.argv[1:3])  # Libraries that are loaded on the way are no part of what is measured.
print(most_in_use())
mapped = soups.checkpoints.average.read_state
soups.checkpoints.average.read_state = lambda path: {key: tensor.clone() for key, tensor in mapped(path).items()}
print(most_in_use())
"""


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="needs Linux's account of a process's memory")
def test_memory_does_not_grow_with_the_number_of_models(tmp_path: Path) -> None:
    paths = [tmp_path / f"model{number}.safetensors" for number in range(40)]
    generator = torch.Generator().manual_seed(0)
    for path in paths:  # 8 MiB each.
        write_checkpoint(path, {f"w{n}": torch.randn(1 << 19, generator=generator) for n in range(4)}, card())
    command = [sys.executable, "-c", MEMORY_SCRIPT, *map(str, paths)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "SOUPS_CACHE": str(tmp_path / "cache")}
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    mapped, all_at_once = map(int, done.stdout.split())
    model = 8 * 2**20
    assert mapped < 2.5 * model + 8 * 2**20
    assert all_at_once > 35 * model  # Else nothing was measured.


@pytest.mark.parametrize("statistics", [True, False])
def test_averaged_batchnorm_statistics_are_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, statistics: bool
) -> None:
    paths = [tmp_path / f"{number}.safetensors" for number in range(2)]
    for number, path in enumerate(paths):
        more = {"bn.running_mean": torch.full((3,), float(number))} if statistics else {}
        write_checkpoint(path, {"w": torch.full((2,), float(number)), **more}, card())
    soups.average(paths)
    assert ("BatchNorm statistics are averaged" in caplog.text) == statistics
