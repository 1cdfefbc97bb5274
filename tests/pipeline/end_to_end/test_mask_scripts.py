"""The scripts examples/mask/*.sh, on fewer and smaller images."""

import re
import shutil
from pathlib import Path

import pandas as pd
import pytest

from tests.pipeline.answerer import ROOT, Answerer

pytestmark = pytest.mark.second_tier

SMALLER = {
    "make_faces.py": {"--train-people": "20", "--test-people": "4", "--jobs": "1"},
    "finetune.py": {"--i": "0-1", "--epochs": "1", "--jobs": "1", "--model": "", "--patience": "1"},
    "main.py": {"--jobs": "1"},
}


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with what the scripts need of the repository, with nothing to set up."""
    shutil.copytree(ROOT / "examples" / "mask", tmp_path / "examples" / "mask")
    (tmp_path / "scripts").mkdir()
    (tmp_path / "scripts" / "setup.sh").touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_script_runs_to_its_end(place: Path, tiny_clip: Path, capsys: pytest.CaptureFixture[str]) -> None:
    answerer = Answerer(place, SMALLER, f"local-dir:{tiny_clip}")
    code, out, err = answerer.run("examples/mask/run.sh")
    assert code == 0, capsys.readouterr().err + err
    assert {Path(words[0]).name for words in answerer.commands} == {
        *("make_faces.py", "make_base.py", "show_batch.py", "find_label_errors.py", "disagreement.py"),
        *("finetune.py", "main.py", "inference.py", "validation.py"),
    }
    for title in ("Soups and votes:", "Corrected labels", "The age model beside the greedy soup:"):
        assert title in out
    for row in ("best single", "greedy soup", "split vote", "old repeated", "with age, original formula"):
        assert re.search(rf"^{row} +\d", out, flags=re.MULTILINE)
    assert re.search(r"^together +\d+ +\d+ +\d+ +\d", out, flags=re.MULTILINE)  # planted, rows, found, right
    info = pd.read_csv(place / "data" / "faces" / "eval" / "info.csv")
    written = place / "runs" / "mask" / "output"
    for name in ("mask_greedy_soup", "with_age", "hard_vote", "split_vote", "soft_voting"):
        assert pd.read_csv(written / f"{name}.csv")["ImageID"].tolist() == info["ImageID"].tolist()
    assert "gender" in (written / "validation.txt").read_text()


def test_two_models(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    answerer = Answerer(place, SMALLER, "timm:mobilenetv3_small_050")  # stands for EfficientNet-B3
    code, out, err = answerer.run("examples/mask/two_models.sh")
    assert code == 0, capsys.readouterr().err + err
    assert "of 28 images right" in out
    assert len(pd.read_csv(place / "runs" / "mask-gender" / "output" / "weighted_ensemble.csv")) == 28
