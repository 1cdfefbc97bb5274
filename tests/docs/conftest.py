"""A folder as the pages describe it: toy images in `photos/`, and the run `photos` of three models with its soups."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

import finetune
import main


@pytest.fixture(scope="session")
def finished_photos(tmp_path_factory: pytest.TempPathFactory, toy_data: Path, tiny_clip: Path) -> Iterator[Path]:
    """The folder, not to be changed."""
    folder = tmp_path_factory.mktemp("reader")
    shutil.copytree(toy_data, folder / "photos")
    flags = ["--name", "photos", "--data-location", "photos", "--group-pattern", r"(p\d+)_", "--val-ratio", "0.5"]
    flags += ["--model", f"local-dir:{tiny_clip}", "--precision", "fp32", "--threads", "1"]
    training = ["--i", "0-2", "--epochs", "10", "--lr", "1e-3", "--batch-size", "8", "--validate-every", "0"]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("SOUPS_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
        assert finetune.main([*flags, *training]) == 0
        assert main.main(["--eval-individual-models", "--uniform-soup", "--greedy-soup"]) == 0
    yield folder


@pytest.fixture
def photos(finished_photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy, which is the working folder."""
    shutil.copytree(finished_photos, tmp_path / "reader")
    monkeypatch.chdir(tmp_path / "reader")
    return tmp_path / "reader"
