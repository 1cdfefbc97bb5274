"""The simulation on a toy: three fine-tunes of small pictures, and two draws."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from scripts import simulate_choice
from soups.files.tables import read_table

CLASSES = {"blue": (60, 80, 200), "green": (60, 200, 80), "red": (200, 70, 60)}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Noisy pictures of three colours."""
    generator = np.random.default_rng(0)
    for split, count in (("train", 4), ("test", 10)):
        for name, colour in CLASSES.items():
            folder = tmp_path / "data" / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                pixels = np.array(colour) + generator.integers(-50, 50, (32, 32, 3))
                Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{number}.png")
    return tmp_path / "data"


def simulate(data: Path, *flags: str) -> int:
    output = ["--data", str(data), "--output", str(data.parent / "output"), "--image-size", "32"]
    small = ["--models", "3", "--train-images", "12", "--repeats", "1", "--sizes", "9", "12", "--folds", "3"]
    return simulate_choice.main([*output, *small, "--draws", "2", *flags])


def test_prints_every_rule_and_continues_from_its_files(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert simulate(data, "--pools", "noisy") == 0
    first = capsys.readouterr()
    assert first.out.count("| greedy, equal (Algorithm 1) |") == 5  # Four tables of all pools, one of the kind.
    table = read_table(data.parent / "output" / "rules.csv")
    assert set(table["pool"]) == {"noisy-0"} and set(table["images"]) == {"9", "12"}
    logits = sorted((data.parent / "output" / "pools" / "noisy-0" / "logits").iterdir())
    assert {len(path.stem) for path in logits} == {3}
    times = [path.stat().st_mtime_ns for path in logits]
    assert simulate(data, "--pools", "noisy") == 0
    again = capsys.readouterr()
    assert again.out == first.out and "fine-tune" in first.err and "fine-tune" not in again.err
    assert [path.stat().st_mtime_ns for path in logits] == times


def test_refuses_what_does_not_fit(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert simulate(data, "--pools", "nosy") == 2
    assert "noisy" in capsys.readouterr().err
    assert simulate(data / "train") == 3
    assert "no classes" in capsys.readouterr().err
    assert simulate(data, "--train-images", "30") == 3
    assert "too few images" in capsys.readouterr().err
