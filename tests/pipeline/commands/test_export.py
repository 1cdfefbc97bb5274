"""The command `export`: checkpoints as files that run without this package."""

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
from soups.checkpoints.checkpoint import Card
from soups.models import exports
from tests.pipeline.commands.conftest import CLASSES
from tests.toy_runs import ToyRun


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_both_exports_give_the_models_logits(soup: Path, toy_data: Path, printed_text: Callable[[], str]) -> None:
    import onnxruntime

    command = ["--model-name", str(soup), "--format", "both", "--output", "out/it", "--images", str(toy_data / "test")]
    assert export_script.main(command) == 0
    output = printed_text()
    assert "out/it.pt2" in output and "out/it.onnx" in output
    assert "onnx: largest difference of a logit" in output and "on 8 images (allowed: " in output
    model = soups.load(soup, device="cpu")
    inputs = torch.randn(3, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = model.classifier(inputs).numpy()
    kept = {"classes": "", "preprocessing": "", "card": ""}
    program = torch.export.load("out/it.pt2", extra_files=kept)
    with torch.no_grad():
        np.testing.assert_allclose(program.module()(inputs).numpy(), expected, atol=1e-4)
    session = onnxruntime.InferenceSession("out/it.onnx", providers=["CPUExecutionProvider"])
    for count in (1, 3):
        (found,) = session.run(["logits"], {"images": inputs[:count].numpy()})
        np.testing.assert_allclose(found, expected[:count], atol=1e-4)
    described = session.get_modelmeta().custom_metadata_map
    for texts in (kept, described):
        assert json.loads(texts["classes"]) == list(CLASSES)
        assert json.loads(texts["preprocessing"])["size"] == 16
        assert Card.model_validate_json(texts["card"]) == model.card


def test_an_export_with_different_logits_is_not_written(
    soup: Path, toy_data: Path, monkeypatch: pytest.MonkeyPatch, printed_text: Callable[[], str]
) -> None:
    original = exports.EXPORTERS["torch"]
    command = ["--model-name", str(soup), "--format", "torch", "--output", "it.pt2", "--images", str(toy_data / "test")]
    Path("it.pt2").write_text("an earlier one")
    changed = replace(original, run=lambda path, inputs: original.run(path, inputs) + 0.1)
    monkeypatch.setitem(exports.EXPORTERS, "torch", changed)
    assert export_script.main(command) == 3
    assert "gives other logits than the model; it is not written expected: differences of at most" in printed_text()

    def broken(*_: object) -> None:
        raise RuntimeError("an unsupported operator")

    monkeypatch.setitem(exports.EXPORTERS, "torch", replace(original, write=broken))
    assert export_script.main(command) == 3
    output = printed_text()
    assert "cannot be exported by --format torch" in output and "an unsupported operator" in output
    assert [path.name for path in Path().iterdir()] == ["it.pt2"] and Path("it.pt2").read_text() == "an earlier one"


def test_invalid_exports(soup: Path, monkeypatch: pytest.MonkeyPatch, printed_text: Callable[[], str]) -> None:
    command = ["--model-name", str(soup), "--format", "torch"]
    assert export_script.main(command) == 2
    assert "--output is missing" in printed_text()
    assert export_script.main([*command, "--output", "it.pt2"]) == 2
    assert "--images: no images to compare the exported file on" in printed_text()
    assert export_script.main([*command, "--output", "it.onnx"]) == 2
    assert "--output it.onnx: not an ending of --format torch expected: .pt2" in printed_text()
    assert export_script.main([*command, "--output", "it.pt2", "--images", "none.png"]) == 3
    assert "none.png: no such file" in printed_text()
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    assert export_script.main(["--model-name", str(soup), "--format", "onnx"]) == 4
    output = printed_text()
    assert "needs the package onnxscript, which is not installed" in output and "pip install onnx onnxscript" in output
    assert not list(Path().iterdir())


def test_a_model_of_a_run_is_written_to_its_output(
    toy_run: ToyRun, monkeypatch: pytest.MonkeyPatch, printed_text: Callable[[], str]
) -> None:
    monkeypatch.chdir(toy_run.folder)
    assert export_script.main(["--model-name", "toys_uniform_soup", "--format", "torch"]) == 0
    assert "runs/toys/output/toys_uniform_soup.pt2" in printed_text()
    assert (toy_run.run / "output" / "toys_uniform_soup.pt2").is_file()
