"""scripts/push_to_hub.py and scripts/export.py on checkpoints of toys, and on a run's."""

import importlib
import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import soups
from scripts import export as export_script
from scripts import push_to_hub as push_script
from soups.checkpoints.card import Card, IngredientCard, SoupCard
from soups.checkpoints.checkpoint import write_checkpoint
from soups.models import exports
from soups.models.build import build_start
from soups.models.settings import ModelSettings
from soups.pipeline.commands import push
from tests.pipeline.fake_hub import FakeHub
from tests.toy_runs import Desk

CLASSES = ("blue", "green", "re|d")


@pytest.fixture(scope="module")
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


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def images(data: Path) -> list[Path]:
    return sorted((data / "test").rglob("*.png"))[:4]


def test_a_model_comes_back_from_its_folder(
    soup: Path, toy_data: Path, tmp_path: Path, error_of: Callable[[], str]
) -> None:
    assert push_script.main(["--model-name", str(soup), "--folder", "out"]) == 0
    said = error_of()
    assert "out" in said and "open_clip alone gives the same logits" in said
    first, again = soups.load(soup, device="cpu"), soups.load("out", device="cpu")
    assert again.card == first.card
    assert np.array_equal(again.predict_proba(images(toy_data)), first.predict_proba(images(toy_data)))
    readme = Path("out/README.md").read_text()
    assert "# license: " in readme and "library_name: open_clip" in readme and "- model-soup" in readme
    assert r"| 2 | re\|d |" in readme and "| val | – | 93.8% | 0.2500 |" in readme
    assert f"| a0 | `{'ab' * 32}` | 1 |" in readme and "Recipe: `greedy`." in readme
    assert "resized to 16 pixels (bicubic" in readme
    assert not [path for path in tmp_path.iterdir() if path.name != "out"]


def test_what_is_there_is_left_alone(soup: Path, error_of: Callable[[], str]) -> None:
    command = ["--model-name", str(soup), "--folder", "out"]
    assert push_script.main(command) == 0
    before = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in Path("out").iterdir()}
    assert push_script.main(command) == 0
    assert {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in Path("out").iterdir()} == before
    readme = Path("out/README.md")
    readme.write_text(readme.read_text().replace("# license: ", "license: mit"))
    error_of()
    assert push_script.main(command) == 0
    assert "README.md: changed since it was written; left unchanged" in error_of()
    assert "license: mit" in readme.read_text()
    Path("out/notes.txt").write_text("mine")
    Path("out/head.safetensors").unlink()
    assert push_script.main(command) == 2
    said = error_of()
    assert "--folder out: has other content" in said and "extra: notes.txt; missing: head.safetensors" in said
    assert Path("out/notes.txt").read_text() == "mine"
    Path("file").write_text("mine")
    assert push_script.main(["--model-name", str(soup), "--folder", "file"]) == 2
    assert "--folder file: is a file" in error_of()


def test_pushing_and_loading_from_the_hub(
    soup: Path, toy_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error_of: Callable[[], str]
) -> None:
    from huggingface_hub import constants

    with FakeHub() as hub:
        # What the environment's HF_ENDPOINT would do, had the client not been imported.
        monkeypatch.setattr(constants, "ENDPOINT", hub.address)
        template = hub.address + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setenv("HF_TOKEN", "hf_toy")
        command = ["--model-name", str(soup), "--folder", "out", "--push", "--repository", "someone/soup"]
        assert push_script.main(command) == 0
        assert f"{hub.address}/someone/soup" in error_of()
        assert hub.created == ["soup"] and hub.tokens == {"Bearer hf_toy"}
        assert hub.files == {path.name: path.read_bytes() for path in Path("out").iterdir()}
        again = soups.load("hf-hub:someone/soup", device="cpu")
        first = soups.load(soup, device="cpu")
        assert again.card == first.card
        assert np.array_equal(again.predict_proba(images(toy_data)), first.predict_proba(images(toy_data)))
        hub.refuses = True
        assert push_script.main(command) == 4
        assert "--push: could not push to someone/soup" in error_of()


def test_pushing_what_cannot_be(soup: Path, monkeypatch: pytest.MonkeyPatch, error_of: Callable[[], str]) -> None:
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub, "get_token", lambda: None)
    command = ["--model-name", str(soup), "--folder", "out", "--push"]
    assert push_script.main(command) == 2
    assert "--push without --repository" in error_of()
    assert push_script.main([*command, "--repository", "soup"]) == 2
    assert "--repository soup: not a name on the hub expected: org/name" in error_of()
    assert push_script.main([*command, "--repository", "someone/soup"]) == 4
    said = error_of()
    assert "not logged in to the Hugging Face hub" in said and "hf auth login" in said
    assert not Path("out").exists()
    assert push_script.main(["--model-name", str(soup)]) == 2
    assert "--folder is missing" in error_of()


def test_a_library_that_says_otherwise_is_not_published(
    soup: Path, monkeypatch: pytest.MonkeyPatch, error_of: Callable[[], str]
) -> None:
    honest = push.find_format

    def wrong(card: Card, where: str) -> object:
        form = honest(card, where)
        return replace(form, reference_logits=lambda folder, picture: form.reference_logits(folder, picture) + 1e-3)

    monkeypatch.setattr(push, "find_format", wrong)
    assert push_script.main(["--model-name", str(soup), "--folder", "out"]) == 3
    assert "open_clip gives other logits than the model; the folder is not written" in error_of()
    assert not list(Path().iterdir())


def test_both_exports_give_the_models_logits(soup: Path, toy_data: Path, error_of: Callable[[], str]) -> None:
    import onnxruntime

    command = ["--model-name", str(soup), "--format", "both", "--output", "out/it", "--images", str(toy_data / "test")]
    assert export_script.main(command) == 0
    said = error_of()
    assert "out/it.pt2" in said and "out/it.onnx" in said
    assert "onnx: largest difference of a logit" in said and "on 8 images (allowed: " in said
    model = soups.load(soup, device="cpu")
    inputs = torch.randn(3, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        wanted = model.classifier(inputs).numpy()
    kept = {"classes": "", "preprocessing": "", "card": ""}
    program = torch.export.load("out/it.pt2", extra_files=kept)
    with torch.no_grad():
        np.testing.assert_allclose(program.module()(inputs).numpy(), wanted, atol=1e-4)
    session = onnxruntime.InferenceSession("out/it.onnx", providers=["CPUExecutionProvider"])
    for count in (1, 3):
        (found,) = session.run(["logits"], {"images": inputs[:count].numpy()})
        np.testing.assert_allclose(found, wanted[:count], atol=1e-4)
    described = session.get_modelmeta().custom_metadata_map
    for texts in (kept, described):
        assert json.loads(texts["classes"]) == list(CLASSES)
        assert json.loads(texts["preprocessing"])["size"] == 16
        assert Card.model_validate_json(texts["card"]) == model.card


def test_an_export_that_answers_otherwise_is_not_written(
    soup: Path, toy_data: Path, monkeypatch: pytest.MonkeyPatch, error_of: Callable[[], str]
) -> None:
    honest = exports.EXPORTERS["torch"]
    command = ["--model-name", str(soup), "--format", "torch", "--output", "it.pt2", "--images", str(toy_data / "test")]
    Path("it.pt2").write_text("an earlier one")
    liar = replace(honest, run=lambda path, inputs: honest.run(path, inputs) + 0.1)
    monkeypatch.setitem(exports.EXPORTERS, "torch", liar)
    assert export_script.main(command) == 3
    assert "gives other logits than the model; it is not written expected: differences of at most" in error_of()

    def broken(*_: object) -> None:
        raise RuntimeError("an operator that nobody knows")

    monkeypatch.setitem(exports.EXPORTERS, "torch", replace(honest, write=broken))
    assert export_script.main(command) == 3
    said = error_of()
    assert "cannot be exported by --format torch" in said and "an operator that nobody knows" in said
    assert [path.name for path in Path().iterdir()] == ["it.pt2"] and Path("it.pt2").read_text() == "an earlier one"


def test_exports_that_cannot_be(soup: Path, monkeypatch: pytest.MonkeyPatch, error_of: Callable[[], str]) -> None:
    command = ["--model-name", str(soup), "--format", "torch"]
    assert export_script.main(command) == 2
    assert "--output is missing" in error_of()
    assert export_script.main([*command, "--output", "it.pt2"]) == 2
    assert "--images: no images to compare the exported file on" in error_of()
    assert export_script.main([*command, "--output", "it.onnx"]) == 2
    assert "--output it.onnx: not an ending of --format torch expected: .pt2" in error_of()
    assert export_script.main([*command, "--output", "it.pt2", "--images", "none.png"]) == 3
    assert "none.png: no such file" in error_of()
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    assert export_script.main(["--model-name", str(soup), "--format", "onnx"]) == 4
    said = error_of()
    assert "needs the package onnxscript, which is not installed" in said and "pip install onnx onnxscript" in said
    assert not list(Path().iterdir())


def test_of_a_run(desk: Desk, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, error_of: Callable[[], str]) -> None:
    monkeypatch.chdir(desk.folder)
    assert push_script.main(["--folder", str(tmp_path / "greedy")]) == 0
    lines = (tmp_path / "greedy" / "README.md").read_text().splitlines()
    (logged,) = [line for line in desk.log("soup_results.jsonl") if line["model_name"] == "toys_greedy_soup"]
    for name in ("val", "test", "noisy"):
        accuracy = f"{100 * logged['metrics'][name]['accuracy']:.1f}%"
        (row,) = [line for line in lines if line.startswith(f"| {name} |")]
        assert accuracy in row.split(" | ")
    assert any(line.startswith("| test | 18 |") for line in lines)
    assert export_script.main(["--model-name", "toys_uniform_soup", "--format", "torch"]) == 0
    assert "runs/toys/output/toys_uniform_soup.pt2" in error_of()
    assert (desk.run / "output" / "toys_uniform_soup.pt2").is_file()


def test_help_is_quick_and_torch_free() -> None:
    loaded = set(sys.modules)
    assert importlib.import_module("soups.pipeline.settings.delivery").PushSettings().push is False
    assert not {name for name in set(sys.modules) - loaded if name == "torch"}
