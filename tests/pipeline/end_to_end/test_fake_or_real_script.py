"""The script examples/fake_or_real/run.sh, on fewer images and with smaller networks."""

import csv
import re
import shutil
from pathlib import Path

import pandas as pd
import pytest

from tests.pipeline.answerer import ROOT, Answerer

pytestmark = pytest.mark.second_tier

SMALLER = {
    "make_generated_digits.py": {"--image-size": "16", "--val-writers": "2", "--test-writers": "2"},
    "finetune.py": {"--epochs": "1", "--patience": "1", "--image-size": "16", "--limit": "40"},
    "compare.py": {"--epochs": "1", "--limit": "40", "--seeds": "1", "--jobs": "1"},
    "explain.py": {"--count": "1"},
}
NETWORKS = """models:
  - {model: baseline, name: vgg, image_size: 16, model_args: {widths: "[8,8,8]"}}
  - {model: baseline, name: efficientnet, image_size: 16, model_args: {widths: "[4,4,4]"}}
  - {model: baseline, name: vit, image_size: 16, model_args: {widths: "[4,8,4]"}}
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, costs_in_this_process: None) -> Path:
    """A folder with what the script needs of the repository: nothing to set up, and networks that train in a second."""
    example = tmp_path / "examples" / "fake_or_real"
    shutil.copytree(ROOT / "examples" / "fake_or_real", example)
    settings = (example / "compare.yaml").read_text()
    start = settings.index("models:")
    end = settings.index("pretrained:")
    (example / "compare.yaml").write_text(settings[:start] + NETWORKS + settings[end:])
    for file in ("run.sh", "vote.yaml"):
        text = re.sub(r"_epochs[0-9]+", "_epochs1", (example / file).read_text())
        (example / file).write_text(text)
    (tmp_path / "scripts").mkdir()
    (tmp_path / "scripts" / "setup.sh").touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_script_runs_to_its_end(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    answerer = Answerer(place, SMALLER)
    code, out, err = answerer.run("examples/fake_or_real/run.sh")
    assert code == 0, capsys.readouterr().err + err
    assert [Path(words[0]).name for words in answerer.commands] == [
        *("make_generated_digits.py", "finetune.py", "compare.py", *["inference.py"] * 5, "validation.py", "explain.py")
    ]
    with (place / "runs" / "fake_or_real-comparison" / "models.csv").open(encoding="utf-8") as stream:
        assert {row["name"] for row in csv.DictReader(stream)} == {"vgg", "efficientnet", "vit"}
    truth = pd.read_csv(place / "data" / "fake_or_real" / "truth.csv")
    vote = pd.read_csv(place / "runs" / "fake_or_real" / "output" / "vote.csv")
    assert set(vote["image"]) == set(truth["image"])
    for row in ("by YAML", "vgg", "efficientnet", "vit", "vote"):
        assert re.search(rf"^{row} +\d", out, flags=re.MULTILINE)
