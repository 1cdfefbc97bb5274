"""The command `curate` on toys: its table and page, training on the table, and invalid input."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import finetune
from soups.data.samples import make_samples
from soups.data.settings import DataSettings
from soups.pipeline.commands import curate as curate_command
from tests.conftest import COLOURS, make_image
from tests.pipeline.commands.run_script import run

PrintedText = Callable[[], str]


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A pool of all colours, and a target with only red images."""
    monkeypatch.chdir(tmp_path)
    generator = np.random.default_rng(5)
    for name, colour in COLOURS.items():
        for number in range(10):
            make_image(tmp_path / "pool" / name / f"{number}.png", colour, generator, noise=25)
    for number in range(4):
        make_image(tmp_path / "target" / f"{number}.png", COLOURS["red"], generator, noise=25)
    return tmp_path


def curate(clip: Path, *arguments: str) -> int:
    model = [
        "--model",
        f"local-dir:{clip}",
        "--precision",
        "fp32",
        "--threads",
        "1",
        "--duplicate-similarity",
        "0.9999999",
    ]
    return run("curate", "--pool", "pool", "--target", "target", *model, *arguments)


def test_a_table_that_finetune_reads_and_a_page(folders: Path, tiny_clip: Path, printed_text: PrintedText) -> None:
    assert curate(tiny_clip, "--count", "8") == 0
    assert "python finetune.py --data-location pool --labels curated.csv" in printed_text()
    table = pd.read_csv("curated.csv", dtype=str)
    assert list(table.columns) == ["image", "label", "similarity", "nearest"] and len(table) == 8
    assert (table["image"].str.split("/").str[0] == table["label"]).all()
    assert table["label"].tolist() == ["red"] * 8
    assert set(table["nearest"]) <= {f"{number}.png" for number in range(4)}
    page = Path("curated.html").read_text()
    assert page.count("data:image/jpeg") == 8 and "8 of the 30 images of pool" in page and "8 red" in page
    assert curate(tiny_clip, "--count", "20", "--output", "more.csv", "--images", "3") == 0
    samples = make_samples(DataSettings(data_location="pool", labels="more.csv"))
    assert len(samples) == 20 and Path("more.html").read_text().count("data:image/jpeg") == 3


def test_images_that_a_run_is_scored_on_are_left_out(folders: Path, tiny_clip: Path, printed_text: PrintedText) -> None:
    for number in range(6):
        for split, first in (("test", 0), ("train", 4)):
            copy = folders / "data" / split / "red" / f"{split}{number}.png"
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(folders / "pool" / "red" / f"{first + number}.png", copy)
    shutil.copytree(folders / "pool" / "blue", folders / "data" / "train" / "blue")
    flags = ["--data-location", "data", "--val-ratio", "None", "--name", "seen", "--epochs", "1", "--i", "0"]
    model = ["--model", f"local-dir:{tiny_clip}", "--precision", "fp32", "--threads", "1", "--allow-duplicates"]
    assert finetune.main([*flags, *model]) == 0
    flags = ["--name", "seen", "--leave-out", "more", "--duplicate-similarity", "0.999999"]
    (folders / "more").mkdir()
    shutil.copy(folders / "pool" / "green" / "0.png", folders / "more")
    assert curate(tiny_clip, "--count", "30", *flags) == 0
    assert "of 30 images: the others are near-duplicates" in printed_text()
    images = set(pd.read_csv("curated.csv")["image"])
    assert not images & {"green/0.png", *(f"red/{number}.png" for number in range(6))}
    assert {"green/1.png", "red/7.png", "red/9.png", "blue/3.png"} <= images
    assert curate(tiny_clip, "--count", "3", "--name", "sen") == 2
    assert "runs/sen: no such run expected: one of the runs: seen" in printed_text()


def test_a_pool_without_class_folders(folders: Path, tiny_clip: Path, printed_text: PrintedText) -> None:
    for number, path in enumerate(sorted((folders / "pool").rglob("*.png"))):
        path.rename(folders / "pool" / f"{number}.png")
    assert curate(tiny_clip, "--count", "3") == 0
    assert "30 images outside class folders, so the table has no labels; --label NAME" in printed_text()
    assert list(pd.read_csv("curated.csv").columns) == ["image", "similarity", "nearest"]
    assert curate(tiny_clip, "--count", "3", "--label", "real") == 0
    assert pd.read_csv("curated.csv")["label"].tolist() == ["real"] * 3


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ((), 2, "--count is not given"),
        (("--count", "0"), 2, "greater than 0"),
        (("--count", "31"), 2, "at most 30, the images of pool"),
        (("--count", "3", "--pool", "nowhere"), 3, "--pool nowhere: no such folder"),
        (("--count", "3", "--target", "empty"), 3, "--target empty: no images in this folder"),
        (("--count", "3", "--duplicate-similarity", "2"), 2, "at most 1"),
        (("--count", "3", "--model", "ViT-B/33"), 2, "ViT-B/33"),
    ],
)
def test_invalid_input(
    folders: Path, tiny_clip: Path, arguments: tuple[str, ...], code: int, words: str, printed_text: PrintedText
) -> None:
    (folders / "empty").mkdir()
    assert curate(tiny_clip, *arguments) == code
    assert words in printed_text()
    assert not Path("curated.csv").exists()


def test_images_that_cannot_be_read_are_named_or_left_out(
    folders: Path, tiny_clip: Path, printed_text: PrintedText
) -> None:
    (folders / "pool" / "red" / "1.png").write_bytes(b"no image")
    assert curate(tiny_clip, "--count", "3") == 3
    assert "pool/red/1.png: not an image" in printed_text()
    assert curate(tiny_clip, "--count", "29", "--skip-bad-images") == 0
    assert "skipped: pool/red/1.png" in printed_text() and len(pd.read_csv("curated.csv")) == 29


def test_the_set_of_unreadable_paths_is_built_once(
    folders: Path, tiny_clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class CountedPairs(list[tuple[Path, str]]):
        passes = 0

        def __iter__(self) -> Iterator[tuple[Path, str]]:
            CountedPairs.passes += 1
            return super().__iter__()

    unreadable = CountedPairs([(Path("pool/red/1.png"), "torn"), (Path("pool/blue/2.png"), "torn")])
    monkeypatch.setattr(curate_command, "find_unreadable", lambda files: unreadable)
    assert curate(tiny_clip, "--count", "28", "--skip-bad-images") == 0
    assert not set(pd.read_csv("curated.csv")["image"]) & {"red/1.png", "blue/2.png"}
    assert CountedPairs.passes == 1  # Not once for each of the pool's 30 files.
