"""The command `push_to_hub`: checkpoints as folders that timm and open_clip load, and their upload."""

import importlib
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import soups
from scripts import push_to_hub as push_script
from soups.checkpoints.card import Card
from soups.pipeline.commands import push
from tests.pipeline.fake_hub import FakeHub
from tests.toy_runs import ToyRun


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def images(data: Path) -> list[Path]:
    return sorted((data / "test").rglob("*.png"))[:4]


def test_a_model_is_loaded_from_its_folder(
    soup: Path, toy_data: Path, tmp_path: Path, printed_text: Callable[[], str]
) -> None:
    assert push_script.main(["--model-name", str(soup), "--folder", "out"]) == 0
    output = printed_text()
    assert "out" in output and "open_clip alone gives the same logits" in output
    first, again = soups.load(soup, device="cpu"), soups.load("out", device="cpu")
    assert again.card == first.card
    assert np.array_equal(again.predict_proba(images(toy_data)), first.predict_proba(images(toy_data)))
    readme = Path("out/README.md").read_text()
    assert "# license: " in readme and "library_name: open_clip" in readme and "- model-soup" in readme
    assert r"| 2 | re\|d |" in readme and "| val | – | 93.8% | 0.2500 |" in readme
    assert f"| a0 | `{'ab' * 32}` | 1 |" in readme and "Recipe: `greedy`." in readme
    assert "resized to 16 pixels (bicubic" in readme
    assert not [path for path in tmp_path.iterdir() if path.name != "out"]


def test_existing_folders_are_not_changed(soup: Path, printed_text: Callable[[], str]) -> None:
    command = ["--model-name", str(soup), "--folder", "out"]
    assert push_script.main(command) == 0
    before = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in Path("out").iterdir()}
    assert push_script.main(command) == 0
    assert {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in Path("out").iterdir()} == before
    readme = Path("out/README.md")
    readme.write_text(readme.read_text().replace("# license: ", "license: mit"))
    printed_text()
    assert push_script.main(command) == 0
    assert "README.md: changed since it was written; left unchanged" in printed_text()
    assert "license: mit" in readme.read_text()
    Path("out/notes.txt").write_text("mine")
    Path("out/head.safetensors").unlink()
    assert push_script.main(command) == 2
    output = printed_text()
    assert "--folder out: has other content" in output and "extra: notes.txt; missing: head.safetensors" in output
    assert Path("out/notes.txt").read_text() == "mine"
    Path("file").write_text("mine")
    assert push_script.main(["--model-name", str(soup), "--folder", "file"]) == 2
    assert "--folder file: is a file" in printed_text()


def test_pushing_and_loading_from_the_hub(
    soup: Path, toy_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, printed_text: Callable[[], str]
) -> None:
    from huggingface_hub import constants

    with FakeHub() as hub:
        # Sets what the environment variable HF_ENDPOINT would set before the client's import.
        monkeypatch.setattr(constants, "ENDPOINT", hub.address)
        template = hub.address + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setenv("HF_TOKEN", "hf_toy")
        command = ["--model-name", str(soup), "--folder", "out", "--push", "--repository", "someone/soup"]
        assert push_script.main(command) == 0
        assert f"{hub.address}/someone/soup" in printed_text()
        assert hub.created == ["soup"] and hub.tokens == {"Bearer hf_toy"}
        assert hub.files == {path.name: path.read_bytes() for path in Path("out").iterdir()}
        again = soups.load("hf-hub:someone/soup", device="cpu")
        first = soups.load(soup, device="cpu")
        assert again.card == first.card
        assert np.array_equal(again.predict_proba(images(toy_data)), first.predict_proba(images(toy_data)))
        hub.refuses = True
        assert push_script.main(command) == 4
        assert "--push: could not push to someone/soup" in printed_text()


def test_invalid_uploads(soup: Path, monkeypatch: pytest.MonkeyPatch, printed_text: Callable[[], str]) -> None:
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub, "get_token", lambda: None)
    command = ["--model-name", str(soup), "--folder", "out", "--push"]
    assert push_script.main(command) == 2
    assert "--push without --repository" in printed_text()
    assert push_script.main([*command, "--repository", "soup"]) == 2
    assert "--repository soup: not a name on the hub expected: org/name" in printed_text()
    assert push_script.main([*command, "--repository", "someone/soup"]) == 4
    output = printed_text()
    assert "not logged in to the Hugging Face hub" in output and "hf auth login" in output
    assert not Path("out").exists()
    assert push_script.main(["--model-name", str(soup)]) == 2
    assert "--folder is missing" in printed_text()


def test_a_folder_with_different_logits_is_not_written(
    soup: Path, monkeypatch: pytest.MonkeyPatch, printed_text: Callable[[], str]
) -> None:
    original = push.find_format

    def wrong(card: Card, where: str) -> object:
        form = original(card, where)
        return replace(form, reference_logits=lambda folder, picture: form.reference_logits(folder, picture) + 1e-3)

    monkeypatch.setattr(push, "find_format", wrong)
    assert push_script.main(["--model-name", str(soup), "--folder", "out"]) == 3
    assert "open_clip gives other logits than the model; the folder is not written" in printed_text()
    assert not list(Path().iterdir())


def test_a_run_s_best_soup_with_its_logged_scores(
    toy_run: ToyRun, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(toy_run.folder)
    assert push_script.main(["--folder", str(tmp_path / "greedy")]) == 0
    lines = (tmp_path / "greedy" / "README.md").read_text().splitlines()
    (logged,) = [line for line in toy_run.log("soup_results.jsonl") if line["model_name"] == "toys_greedy_soup"]
    for name in ("val", "test", "noisy"):
        accuracy = f"{100 * logged['metrics'][name]['accuracy']:.1f}%"
        (row,) = [line for line in lines if line.startswith(f"| {name} |")]
        assert accuracy in row.split(" | ")
    assert any(line.startswith("| test | 18 |") for line in lines)


def test_help_is_quick_and_torch_free() -> None:
    loaded = set(sys.modules)
    assert importlib.import_module("soups.pipeline.settings.delivery").PushSettings().push is False
    assert not {name for name in set(sys.modules) - loaded if name == "torch"}
