"""Loading models by path, folder or hub name, and code that runs without this package."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from soups.core.errors import DataError, EnvironmentFailure
from soups.models import hub_folder
from soups.models.hub_folder import CARD_FILE, find_format, load_anywhere, write_hub_folder
from tests.models.hub_folders import build_model, compute_logits


def test_the_usage_runs_without_this_project(tiny_clip: Path, tmp_path: Path, pictures: list[Path]) -> None:
    models = {name: build_model(name) for name in ("timm:test_vit", f"local-dir:{tiny_clip}")}
    program = "import json, sys\n"
    for number, (classifier, card) in enumerate(models.values()):
        folder = tmp_path / str(number)
        folder.mkdir()
        write_hub_folder(folder, classifier, card, "it")
        program += find_format(card, "it").usage.replace("FOLDER", str(folder)).replace("IMAGE", str(pictures[0]))
        program += "print(json.dumps(logits.tolist()))\n"
    program += "assert 'soups' not in sys.modules\n"
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    command = [sys.executable, "-W", "ignore", "-c", program]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for line, (classifier, card) in zip(done.stdout.splitlines(), models.values(), strict=True):
        np.testing.assert_allclose(json.loads(line), compute_logits(classifier, card, pictures[:1]), atol=1e-5)


def test_folders_without_a_model_are_refused(tmp_path: Path, tiny_clip: Path) -> None:
    with pytest.raises(DataError, match=r"holds no classifier(.|\n)*nothing"):
        load_anywhere(str(tmp_path))
    with pytest.raises(DataError, match=r"a CLIP, which has no classes(.|\n)*fine-tune it"):
        load_anywhere(str(tiny_clip))
    with pytest.raises(DataError, match=r"no such file or folder(.|\n)*hf-hub:someone/soup"):
        load_anywhere("someone/soup")
    (tmp_path / CARD_FILE).write_text("{}")
    with pytest.raises(DataError, match=r"soups_card\.json: a card of another version"):
        load_anywhere(str(tmp_path))


def test_a_family_without_hub_layout_is_refused(tmp_path: Path) -> None:
    classifier, card = build_model("timm:test_vit")
    other = card.model_copy(update={"architecture": card.architecture.model_copy(update={"family": "home-made"})})
    with pytest.raises(DataError, match=r"no other library builds(.|\n)*home-made"):
        write_hub_folder(tmp_path, classifier, other, "it")
    assert not list(tmp_path.iterdir())


def test_an_unreachable_hub_is_an_environment_failure(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(hub_folder.hub, "SECONDS_TO_ANSWER", 0.5)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(EnvironmentFailure, match=r"could not fetch hf-hub:someone/soup(.|\n)*hf auth login"):
        load_anywhere("hf-hub:someone/soup")
    with pytest.raises(DataError, match=r"not a name on the hub(.|\n)*hf-hub:org/name"):
        load_anywhere("hf-hub:some one/soup/more")
