"""One backbone of every family goes through all steps, and models of different backbones vote together."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import finetune
import inference
import soups
from scripts import try_backbones
from soups.checkpoints.card import read_card
from soups.checkpoints.checkpoint import read_state
from soups.core.errors import UsageError
from soups.files.jsonl import read_records
from soups.files.tables import read_table
from soups.models.open_clip.names import exact_name
from soups.models.timm.names import PREFIX, resolve_source
from tools.backbones import run as backbones
from tools.backbones.settings import BACKBONES

pytestmark = pytest.mark.second_tier

SMALL = {
    "baseline": "baseline widths=[4,6,8]",
    "vgg": "timm:vgg11 mlp_ratio=0.01",
    "resnet": "timm:test_resnet",
    "efficientnet": "timm:test_efficientnet",
    "vit": "timm:vit_tiny_patch16_224 patch_size=4 img_size=32 embed_dim=32 num_heads=2 depth=2",
    "swin": "timm:swin_tiny_patch4_window7_224 embed_dim=16 depths=[1,1,2,1] num_heads=[1,2,2,4]",
    "swinv2": "timm:swinv2_tiny_window8_256 embed_dim=16 depths=[1,1,2,1] num_heads=[1,2,2,4]",
    "convnext": "timm:test_convnext",
}


TRAINING = ["--epochs", "1", "--lr", "1e-3", "--batch-size", "9"]


def trial(folder: Path, *entries: str) -> int:
    flags = ["--output", str(folder), "--threads", "1", "--precision", "fp32"]
    return try_backbones.main([*flags, "--backbones", *entries])


def test_one_of_each_family_completes_all_steps(
    tmp_path: Path, tiny_clip: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    entries = [*SMALL.values(), f"local-dir:{tiny_clip}"]
    assert trial(tmp_path, *entries) == 0
    table = read_table(tmp_path / "backbones.csv")
    assert list(table["backbone"]) == entries and set(table["failed"]) == {""}
    assert list(table["image_size"]) == ["32" if "img_size" in entry else "64" for entry in SMALL.values()] + ["16"]
    assert (table["soup_difference"].astype(float) < 1e-6).all() and (table["seconds_per_step"].astype(float) > 0).all()
    maps = dict(zip([*SMALL, "clip"], table["maps"], strict=True))
    assert maps["baseline"] == maps["resnet"] == "cam gradcam gradcam++ layercam"
    assert maps["vit"] == maps["clip"] == "gradcam gradcam++ layercam rollout relevance"
    assert all("gradcam" in found for found in maps.values())
    vit = table[table["backbone"] == SMALL["vit"]].iloc[0]
    # Patches, class token, position embeddings, two blocks, the last norm and the head of two classes.
    block = 4 * 32 + 3 * 32 * 32 + 3 * 32 + 32 * 32 + 32 + 8 * 32 * 32 + 4 * 32 + 32
    assert int(vit["parameters"]) == 3 * 16 * 32 + 32 + 32 + 65 * 32 + 2 * block + 64 + 2 * 32 + 2
    log = capsys.readouterr()
    assert log.out.count("  ok") == len(entries) == log.err.count(" …\n")
    left = {path.name for path in tmp_path.iterdir() if not path.name.endswith(".lock")}
    assert left == {"backbones.csv", "backbones.jsonl"}
    assert trial(tmp_path, *reversed(entries)) == 0
    assert "…" not in capsys.readouterr().err  # Nothing was tried again.
    assert list(read_table(tmp_path / "backbones.csv")["backbone"]) == entries[::-1]


def test_failures_are_reported_and_tried_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(trial: backbones.Trial) -> None:
        raise RuntimeError("no such luck")

    monkeypatch.setitem(backbones.STEPS, "load", broken)
    assert trial(tmp_path, "timm:resnt18", SMALL["baseline"]) == 5
    log = capsys.readouterr()
    assert "timm:resnt18: build: --model timm:resnt18: timm has no such model" in log.out
    assert "baseline widths=[4,6,8]: load: RuntimeError: no such luck" in log.out
    assert "2 of 2 backbones failed" in log.err
    monkeypatch.undo()
    assert trial(tmp_path, SMALL["baseline"]) == 0
    assert [line["failed"] for line in read_records(tmp_path / "backbones.jsonl")] == ["build", "load", ""]


def test_invalid_names_are_refused_before_the_first_trial(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"--backbones 'baseline widths'(.|\n)*expected NAME=VALUE"):
        backbones.model_of("baseline widths")
    assert trial(tmp_path / "new", "baseline", "") == 2 and not (tmp_path / "new").exists()


def test_the_backbones_to_be_tried_have_names_that_the_libraries_know() -> None:
    models = [backbones.model_of(entry) for entry in BACKBONES]
    assert len({model.model_dump_json() for model in models}) == len(BACKBONES)
    for model in models:
        if model.model.startswith(PREFIX):
            assert resolve_source(model).name == model.model.removeprefix(PREFIX)
        elif model.model != "baseline":
            exact_name(model.model)


@pytest.fixture(scope="module")
def two_runs(toy_data: Path, tiny_clip: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Return a working folder with the runs `clip` and `vit` of one fine-tune each."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("two")
        patch.chdir(folder)
        patch.setenv("SOUPS_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
        common = ["--data-location", str(toy_data), "--group-pattern", r"(p\d+)_", "--val-ratio", "0.5", "--i", "0"]
        common += ["--precision", "fp32", "--threads", "1", *TRAINING]
        vit, *arguments = SMALL["vit"].split()
        assert finetune.main(["--name", "clip", "--model", f"local-dir:{tiny_clip}", *common]) == 0
        random = ["--pretrained", "none", "--model-args", *arguments]
        assert finetune.main(["--name", "vit", "--model", vit, *random, *common]) == 0
        yield folder


def test_stages_are_frozen_and_rates_decayed_from_the_command_line(
    two_runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = ["--name", "vit", *TRAINING, "--i"]
    assert finetune.main([*base, "1", "--freeze", "4"]) == 2
    log = " ".join(capsys.readouterr().err.split())
    assert "--freeze 4: vit_tiny_patch16_224 has only 3 stages expected: 0 to 3" in log
    again = [*base, "1", "--freeze", "2", "--layer-decay", "0.5"]
    assert finetune.main(again) == 0
    plain, used = (read_card(two_runs / f"runs/vit/models/vit{i}_epochs1.safetensors") for i in (0, 1))
    assert plain is not None and used is not None
    assert not {"freeze", "layer_decay"} & plain.training.keys()
    assert (used.training["freeze"], used.training["layer_decay"]) == (2, 0.5)
    assert finetune.main(again) == 0 and finetune.main([*base, "0"]) == 0
    assert capsys.readouterr().err.count("finished already") == 2
    assert finetune.main([*base, "0", "--layer-decay", "0.5"]) == 2
    start, end = (read_state(two_runs / f"runs/vit/models/vit{name}.safetensors") for name in ("_start", "1_epochs1"))
    stand = {key for key, tensor in end.items() if torch.equal(tensor, start[key])}
    assert "backbone.pos_embed" in stand and "backbone.blocks.0.mlp.fc1.weight" in stand
    assert not any(key.startswith(("backbone.blocks.1.", "backbone.norm.", "head.")) for key in stand)


def test_models_of_different_backbones_vote_together(two_runs: Path, toy_data: Path) -> None:
    """Each model uses its own input size and preprocessing; the reference is each model's own predictions."""
    models = [soups.load(f"runs/{name}/models/{name}0_epochs1.safetensors", device="cpu") for name in ("clip", "vit")]
    assert [model.card.preprocessing.size for model in models] == [16, 32]
    assert models[0].card.preprocessing.std != models[1].card.preprocessing.std
    for name in ("clip", "vit"):
        vote = ["--name", name, "--soft-voting", "clip0_epochs1", "vit0_epochs1", "--probabilities"]
        assert inference.main([*vote, "--output", f"{name}.csv"]) == 0
        table = pd.read_csv(f"{name}.csv")
        paths = [toy_data / image for image in table["image"]]
        expected = np.mean([model.predict_proba(paths) for model in models], axis=0)
        assert list(table["target"]) == [models[0].classes[k] for k in expected.argmax(axis=1)]
        np.testing.assert_allclose(table[list(models[0].classes)], expected, atol=2e-6)
    assert inference.main(["--name", "clip", "--weighted-ensemble", "clip0_epochs1", "vit0_epochs1"]) == 0
    assert inference.main(["--name", "clip", "--hard-voting", "clip0_epochs1", "vit0_epochs1"]) == 0
