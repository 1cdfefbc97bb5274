"""`scripts/compare.py` on toy images: what it measures and prints, nothing done twice, failures of single networks."""

import csv
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import pytest

from soups.checkpoints.card import read_card
from soups.core.scores import accuracy, softmax
from soups.pipeline.train import costs
from soups.runtime.workers import WorkerPool

PrintedText = Callable[[], str]
SCRIPT = Path(__file__).parents[3] / "scripts" / "compare.py"
WIDE, NARROW = "baseline widths=[8,8,8] name=wide", "baseline widths=[4,4,4] lr=3e-3 name=narrow"


@pytest.fixture(scope="module")
def compare() -> ModuleType:
    """The script as a module."""
    spec = importlib.util.spec_from_file_location("compare", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["compare"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, costs_in_this_process: None) -> Path:
    """A folder to work in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def flags(toy_data: Path) -> list[str]:
    return [
        *("--name", "toys", "--data-location", str(toy_data), "--group-pattern", r"(p\d+)_", "--val-ratio", "0.5"),
        *("--image-size", "16", "--pretrained", "none", "--precision", "fp32", "--threads", "1"),
        *("--epochs", "1", "--batch-size", "8", "--lr", "1e-2", "--augmentation", "base"),
    ]


def table(folder: Path) -> dict[str, dict[str, str]]:
    with (folder / "runs" / "toys-comparison" / "models.csv").open(encoding="utf-8") as stream:
        return {row["name"]: row for row in csv.DictReader(stream)}


def contents(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Every file with its time and bytes, but for locks and the figure, which says the same when drawn again."""
    return {
        path.relative_to(folder).as_posix(): (path.stat().st_mtime_ns, path.read_bytes())
        for path in sorted(folder.rglob("*"))
        if path.is_file() and ".locks" not in path.parts and path.suffix not in (".png", ".lock")
    }


def test_two_networks_and_a_third_that_fails(
    compare: ModuleType, place: Path, flags: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    (place / "broken.safetensors").write_bytes(b"no weights")
    models = [WIDE, "baseline name=broken pretrained=broken.safetensors", NARROW, "baseline name=wild lr=1e30 wd=0"]
    assert compare.main([*flags, "--models", *models]) == 5
    out, err = capsys.readouterr()
    assert "Traceback" not in err
    assert "2 of 4 networks failed; the others are in the table" in err
    assert "broken: " in err and "broken.safetensors" in err
    assert "wild" in err and "lr 1e+30: the loss became" in err and "lower the learning rate" in err
    assert out.startswith("comparison toys: 18 test images of 2 groups\n")
    rows = table(place)
    assert list(rows) == sorted(rows, key=lambda name: -float(rows[name]["accuracy"]))
    wide, narrow = rows["wide"], rows["narrow"]
    _by_hand(place, wide)
    # 3 → 8 → 8 → 8 channels of 3 × 3 at 16, 8 and 4 pixels a side, and a head of three classes.
    assert float(narrow["parameters"]) < float(wide["parameters"]) == float(wide["trainable"])
    assert float(narrow["multiply_adds"]) < float(wide["multiply_adds"])
    for row in (wide, narrow):
        assert row["epochs"] == "1" and row["seeds"] == "2"
        assert float(row["seconds_per_epoch"]) > 0 and float(row["images_per_second"]) > 0
        assert 2**26 < float(row["peak_memory"]) < 2**33  # libraries and all
        assert float(row["accuracy_low"]) <= float(row["accuracy"]) <= float(row["accuracy_high"])
        assert {"f1_red", "f1_green", "f1_blue", "calibration_error", "macro_f1"} <= set(row)
    assert narrow["frontier"] == "True"  # The cheapest always is.
    card = read_card(place / "runs" / "toys-narrow" / "models" / "toys-narrow1_epochs1.safetensors")
    assert card is not None and card.training["lr"] == 3e-3
    assert (place / "runs" / "toys-comparison" / "frontier.png").stat().st_size > 5000
    before = contents(place)
    assert compare.main([*flags, "--models", WIDE, NARROW]) == 0
    assert capsys.readouterr().out.splitlines()[0] == out.splitlines()[0]
    after = contents(place)
    # Nothing is trained, measured or scored again; the table is the same.
    assert after == before


def _by_hand(place: Path, row: dict[str, str]) -> None:
    """Accuracy of the table from the kept logits."""
    samples = pd.read_csv(place / "runs" / "toys-wide" / "samples.csv", dtype=str)
    labels = samples.loc[samples["split"] == "test", "label"]
    index = np.array([["blue", "green", "red"].index(label) for label in labels])
    kept = sorted((place / "runs" / "toys-wide" / "logits").glob("*-test-*.npy"))
    assert len(kept) == 2
    scores = [accuracy(softmax(np.load(path)), index) for path in kept]
    assert float(row["accuracy"]) == pytest.approx(np.mean(scores))
    assert float(row["accuracy_worst"]) == pytest.approx(min(scores))


def test_equal_minutes_become_epochs(
    compare: ModuleType, place: Path, flags: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    (place / "compare.yaml").write_text(
        "models:\n  - {model: baseline, name: small, model_args: {widths: '[4,4,4]'}}\nminutes: 1e-9\nseeds: 1\n"
    )
    assert compare.main([*flags, "--epochs", "5", "--config", "compare.yaml"]) == 0
    out, err = capsys.readouterr()
    assert "small: 1 epochs of" in err and table(place)["small"]["epochs"] == "1"
    assert [path.name for path in place.glob("runs/*/models/*_epochs*")] == ["toys-small0_epochs1.safetensors"]
    assert "◆" in out


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ([], 2, ["--models is missing", "--models timm:resnet18"]),
        (["--models", "timm:resnet1"], 2, ["timm has no such model", "did you mean resnet18"]),
        (["--models", "baseline", "timm:resnet1"], 2, ["timm has no such model"]),
        (["--models", "baseline", "baseline lr=1"], 2, ["would have the run toys-baseline", "name=NAME"]),
        (["--models", "baseline name=comparison"], 2, ["toys-comparison", "the table"]),
        (["--models", "baseline lr=fast"], 2, ["'baseline lr=fast': lr", "valid number", "'fast'"]),
        (["--models", "baseline lr"], 2, ['"MODEL NAME=VALUE', "'lr'"]),
        (["--models", "baseline epochs=3"], 2, ["epochs is one for all networks", "--epochs"]),
        (["--models", "baseline", "--hparams", "random"], 2, ["--hparams random", "one budget", "fixed"]),
        (["--models", "baseline", "--minutes", "1", "--jobs", "2"], 2, ["--minutes with --jobs"]),
        (["--models", "baseline", "--metric", "accurracy"], 2, ["accurracy", "'accuracy'"]),
        (["--models", "baseline", "--loss-fn", "Focal"], 2, ["Focal", "FocalLoss"]),
        (["--models", "baseline optimizer=adamv"], 2, ["adamv", "adam"]),
        (["--models", "baseline", "--model-location", "x"], 2, ["--model-location", "leave it out"]),
        (["--models", "baseline", "--data-location", "nowhere"], 3, ["nowhere"]),
    ],
)
def test_invalid_requests_train_nothing(
    compare: ModuleType,
    place: Path,
    flags: list[str],
    printed_text: PrintedText,
    arguments: list[str],
    code: int,
    words: list[str],
) -> None:
    assert compare.main([*flags, *arguments]) == code
    error = printed_text()
    assert all(word in error for word in words), error
    assert not (place / "runs").exists()


def test_costs_are_measured_in_a_process_of_its_own_and_other_settings_are_refused(
    compare: ModuleType, place: Path, flags: list[str], printed_text: PrintedText, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(costs, "WorkerPool", WorkerPool)
    ballast = np.ones(2**27)  # 1 GiB in this process
    assert compare.main([*flags, "--models", NARROW, "--seeds", "1"]) == 0
    assert float(table(place)["narrow"]["peak_memory"]) < 0.9 * 2**30 + 2**28 and ballast.nbytes == 2**30
    printed_text()
    before = contents(place)
    assert compare.main([*flags, "--models", NARROW, "--seeds", "1", "--epochs", "2"]) == 2
    assert "was trained with other settings" in printed_text()
    assert compare.main([*flags, "--models", "baseline widths=[5,5,5] name=narrow"]) == 2
    assert "--model-args: run 'toys-narrow' was made with another value" in printed_text()
    changed = {name for name, content in contents(place).items() if before.get(name) != content}
    assert all("costs.jsonl" in name for name in changed)
