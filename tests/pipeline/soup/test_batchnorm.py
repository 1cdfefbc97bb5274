"""Runs of networks with BatchNorm from the command line: open_clip's RN50 and a timm ResNet, both tiny."""

import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import finetune
import main
from soups.checkpoints.average import average
from soups.checkpoints.card import read_card
from soups.checkpoints.checkpoint import read_state
from soups.core.errors import UsageError
from soups.evaluation.batchnorm import has_statistics
from soups.evaluation.settings import EvaluationSettings
from soups.pipeline.score.context import open_context
from soups.pipeline.settings.commands import MainSettings
from soups.pipeline.soup import batchnorm as choosing
from soups.pipeline.soup.judge import LazyJudge
from soups.pipeline.soup.pool import pool_of

RN = {
    "embed_dim": 8,
    "vision_cfg": {"image_size": 32, "layers": [1, 1, 1, 1], "width": 8},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 16, "heads": 1, "layers": 1},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, toy_data: Path) -> Iterator[Path]:
    """A working folder with a run `rn` and a run `timm` of two fine-tunes each."""
    import open_clip
    from safetensors.torch import save_file

    folder = tmp_path_factory.mktemp("batchnorm")
    clip = folder / "clip"
    clip.mkdir()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = open_clip.model.CLIP(**RN)
    preprocessing = {"mean": [0.5] * 3, "std": [0.25] * 3, "interpolation": "bicubic", "resize_mode": "shortest"}
    (clip / "open_clip_config.json").write_text(json.dumps({"model_cfg": RN, "preprocess_cfg": preprocessing}))
    weights = {key: value.contiguous() for key, value in model.state_dict().items()}
    save_file(weights, clip / "open_clip_model.safetensors")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("SOUPS_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
        common = ["--data-location", str(toy_data), "--group-pattern", r"(p\d+)_", "--val-ratio", "0.5", "--i", "0-1"]
        common += ["--precision", "fp32", "--threads", "1", "--lr", "1e-2", "--batch-size", "9"]
        assert finetune.main(["--name", "rn", "--model", f"local-dir:{clip}", "--epochs", "3", *common]) == 0
        timm = ["--model", "timm:test_resnet", "--pretrained", "none", "--epochs", "1"]
        assert finetune.main(["--name", "timm", *timm, *common]) == 0
        yield folder


def statistics(state: Any) -> dict[str, torch.Tensor]:
    return {key: value for key, value in state.items() if key.endswith(("running_mean", "running_var"))}


def soup_of(folder: Path, name: str) -> tuple[dict[str, torch.Tensor], Any]:
    path = folder / "runs" / name / "models" / f"{name}_uniform_soup.safetensors"
    card = read_card(path)
    assert card is not None and card.soup is not None
    return read_state(path), card.soup


@pytest.mark.parametrize("name", ["rn", "timm"])
def test_each_network_gets_the_requested_statistics(folder: Path, name: str) -> None:
    models = sorted((folder / "runs" / name / "models").glob(f"{name}?_epochs*.safetensors"))
    mean = average(models).state
    assert has_statistics(mean) and len(models) == 2
    assert main.main(["--name", name, "--uniform-soup", "--batchnorm", "recompute"]) == 0
    state, soup = soup_of(folder, name)
    assert soup.options["batchnorm"] == {"statistics": "recompute", "images": 18, "seed": 0}
    own = statistics(mean)
    assert own and not any(torch.equal(state[key], own[key]) for key in own)
    assert all(torch.equal(state[key], mean[key]) for key in mean.keys() - own.keys())
    # What the log says of the file is what the judge saw: its score is on the card.
    card = read_card(folder / "runs" / name / "models" / f"{name}_uniform_soup.safetensors")
    lines = (folder / "runs" / name / "logs" / "soup_results.jsonl").read_text().splitlines()
    assert card is not None and card.scores["val"]["accuracy"] == json.loads(lines[-1])["val"]


def test_rebuild_recomputes_the_statistics_and_average_keeps_their_mean(folder: Path) -> None:
    models = sorted((folder / "runs" / "rn" / "models").glob("rn?_epochs*.safetensors"))
    path = folder / "runs" / "rn" / "models" / "rn_uniform_soup.safetensors"
    assert main.main(["--name", "rn", "--uniform-soup", "--batchnorm", "recompute"]) == 0
    first = path.read_bytes()
    path.write_bytes(first[:-1] + bytes([first[-1] ^ 1]))
    assert main.main(["--name", "rn", "--rebuild", str(path)]) == 0
    assert path.read_bytes() == first
    path.unlink()
    assert main.main(["--name", "rn", "--uniform-soup", "--batchnorm", "recompute"]) == 0
    assert path.read_bytes() == first
    assert main.main(["--name", "rn", "--uniform-soup", "--batchnorm", "average"]) == 0
    state, soup = soup_of(folder, "rn")
    mean = average(models).state
    assert all(torch.equal(state[key], mean[key]) for key in mean)
    assert soup.options["batchnorm"] == {"statistics": "average"}


def test_validation_decides_once_per_pool(folder: Path) -> None:
    log = folder / "runs" / "rn" / "logs" / "batchnorm.jsonl"
    assert main.main(["--name", "rn", "--uniform-soup"]) == 0
    line = json.loads(log.read_text())
    _, soup = soup_of(folder, "rn")
    chosen = "recompute" if line["recompute"] > line["average"] else "average"
    assert soup.options["batchnorm"]["statistics"] == chosen
    scores = {}
    context = context_of("rn")
    mean = average(sorted((folder / "runs" / "rn" / "models").glob("rn?_epochs*.safetensors"))).state
    for asked in ("average", "recompute"):
        scores[asked] = LazyJudge(context, pool_of(context), asked)(mean).score
    assert {key: line[key] for key in scores} == scores
    assert main.main(["--name", "rn", "--greedy-soup"]) == 0
    assert len(log.read_text().splitlines()) == 1


def context_of(name: str) -> Any:
    settings = MainSettings.model_validate({"run": {"name": name}, "evaluation": EvaluationSettings()})
    return open_context(settings, {"name"})


def test_single_models_keep_their_statistics(folder: Path) -> None:
    context = context_of("rn")
    judge = LazyJudge(context, pool_of(context), "recompute")
    for path in [
        *sorted((folder / "runs" / "rn" / "models").glob("rn?_*")),
        folder / "runs/rn/models/rn_start.safetensors",
    ]:
        state = read_state(path)
        kept = judge.with_batchnorm(state)
        assert all(torch.equal(kept[key], state[key]) for key in state)


def test_without_training_images_statistics_are_averaged(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    context = context_of("rn")
    pool, space = pool_of(context), context.run.space
    assert len(space) == 3  # Known from now on.
    context.run.__dict__["samples"] = context.run.samples[context.run.samples["split"] != "train"]
    mean = average(sorted((folder / "runs" / "rn" / "models").glob("rn?_*"))).state
    with pytest.raises(UsageError, match="--batchnorm recompute: no training images"):
        LazyJudge(context, pool, "recompute").with_batchnorm(mean)
    judge = LazyJudge(context, pool)
    assert judge.with_batchnorm(mean) is mean and judge.statistics == {"statistics": "average"}
    assert "no training images: the soup's BatchNorm statistics are averaged" in caplog.text


def test_without_batchnorm_no_training_image_is_opened(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = {"head.weight": torch.zeros(3, 8)}
    context = context_of("rn")
    lazy = LazyJudge(context, pool_of(context))
    assert lazy.with_batchnorm(state) is state and "judge" not in vars(lazy)
    opened: list[str] = []
    monkeypatch.setattr(choosing, "evaluation_set", lambda name, *_: opened.append(name))
    judge: Any = SimpleNamespace(classifier=torch.nn.Linear(2, 2))
    unused: Any = None
    assert choosing.choose_batchnorm(judge, unused, unused, unused, "recompute") == {}
    assert opened == []
