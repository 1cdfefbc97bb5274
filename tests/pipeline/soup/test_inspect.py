"""`main.py --inspect` on toy models: what it measures, and which models it rejects."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import finetune
import main
import soups
from soups.checkpoints.card import Card, read_card
from soups.checkpoints.checkpoint import read_state, write_checkpoint


class InspectedRun:
    """A working folder with a run of three toy models without scores."""

    def __init__(self, folder: Path, data: Path) -> None:
        self.folder, self.data, self.run = folder, data, folder / "runs" / "toys"

    def contents(self) -> dict[str, bytes]:
        """Every file with its bytes."""
        paths = [path for path in self.folder.rglob("*") if path.is_file() and not path.name.endswith(".lock")]
        return {path.relative_to(self.folder).as_posix(): path.read_bytes() for path in paths}

    def table(self) -> pd.DataFrame:
        """The table of the last inspection."""
        return pd.read_csv(self.run / "output" / "inspection.csv", keep_default_na=False).set_index("name")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, toy_data: Path, tiny_clip: Path) -> InspectedRun:
    folder = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("SOUPS_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
        flags = [
            "--name",
            "toys",
            "--data-location",
            str(toy_data),
            "--group-pattern",
            r"(p\d+)_",
            "--val-ratio",
            "0.5",
        ]
        flags += ["--model", f"local-dir:{tiny_clip}", "--precision", "fp32", "--threads", "1"]
        assert finetune.main([*flags, "--i", "0-2", "--epochs", "6", "--lr", "2e-3", "--batch-size", "8"]) == 0
    return InspectedRun(folder, toy_data)


@pytest.fixture
def toys(trained: InspectedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> InspectedRun:
    """A copy that a test may change."""
    shutil.copytree(trained.folder, tmp_path / "toys")
    monkeypatch.chdir(tmp_path / "toys")
    return InspectedRun(tmp_path / "toys", trained.data)


def models_of(toys: InspectedRun) -> list[Path]:
    return sorted(toys.run.glob("models/toys?_epochs*.safetensors"))


def card_of(path: Path) -> Card:
    card = read_card(path)
    assert card is not None
    return card


def add_model(
    toys: InspectedRun, path: Path, index: int, state: Mapping[str, torch.Tensor] | None = None, **more: Any
) -> Path:
    """A model of the run's naming made from another."""
    card = card_of(path)
    card = card.model_copy(update={"training": {**card.training, "index": index}, **more})
    path_of_copy: Path = toys.run / "models" / f"toys{index}_epochs{card.training['epochs']}.safetensors"
    write_checkpoint(path_of_copy, read_state(path) if state is None else state, card)
    return path_of_copy


def test_the_table_holds_distances_angles_and_barriers(toys: InspectedRun, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["--inspect"]) == 0
    text = capsys.readouterr().out
    paths = models_of(toys)
    table = pd.read_csv(toys.run / "output" / "inspection.csv").set_index("name")
    assert list(table.index) == [path.stem for path in paths]
    start = read_state(toys.run / "models" / "toys_start.safetensors")
    samples = pd.read_csv(toys.run / "samples.csv", dtype=str)
    rows = samples[samples["split"] == "val"]
    images = [toys.data / image for image in rows["image"]]
    vectors, scores = {}, {}
    for path in paths:
        state = read_state(path)
        vectors[path.stem] = np.concatenate([(state[key] - start[key]).double().numpy().ravel() for key in start])
        scores[path.stem] = accuracy(path, images, rows["label"])
    measured = table["drop"].isna()
    assert measured.sum() == 1 and scores[measured.idxmax()] == max(scores.values())
    best = str(measured.idxmax())
    for path in paths:
        name = path.stem
        others = np.mean([vector for other, vector in vectors.items() if other != name], axis=0)
        cosine = vectors[name] @ others / np.linalg.norm(vectors[name]) / np.linalg.norm(others)
        assert table.loc[name, "distance"] == pytest.approx(np.linalg.norm(vectors[name]))
        assert table.loc[name, "angle"] == pytest.approx(np.degrees(np.arccos(cosine)))
        assert table.loc[name, "val"] == pytest.approx(scores[name])
        if name != best:
            soups.average([path, toys.run / "models" / f"{best}.safetensors"]).save("middle.safetensors")
            middle = accuracy(Path("middle.safetensors"), images, rows["label"])
            assert table.loc[name, "midpoint"] == pytest.approx(middle)
            assert table.loc[name, "drop"] == pytest.approx((scores[name] + scores[best]) / 2 - middle)
            assert f"between each and {best}" in text
    assert "distances from the start toys_start" in text
    before = toys.contents()
    assert main.main(["--inspect"]) == 0
    assert capsys.readouterr().out == text and toys.contents() == before
    lines = [json.loads(line) for line in (toys.run / "logs" / "inspection.jsonl").read_text().splitlines()]
    assert [line["model_name"] for line in lines] == [path.stem for path in paths]
    assert [line["can_be_souped"] for line in lines] == [not line["why"] for line in lines]


def accuracy(path: Path, images: list[Path], labels: "pd.Series[str]") -> float:
    answers = soups.load(path, device="cpu").predict(pd.DataFrame({"image": [str(image) for image in images]}))
    return float((answers["target"].to_numpy() == labels.to_numpy()).mean())


def test_models_that_cannot_be_averaged_are_named_with_the_reason(
    toys: InspectedRun, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second, third = models_of(toys)
    state = read_state(first)
    broken = {**state, "head.bias": torch.tensor([0.0, float("nan"), 0.0])}
    reasons = {
        add_model(toys, first, 3, broken): "its tensor 'head.bias' holds NaN or infinity",
        add_model(toys, first, 4, classes=("blue", "green", "rot")): "it has another list of classes",
        add_model(toys, first, 5, {key: value.half() for key, value in state.items()}): "float16",
        add_model(toys, first, 6, {**state, "more": torch.ones(2)}): "it has an extra tensor 'more'",
        add_model(toys, first, 7): "it cannot be read: not a whole safetensors file",
        add_model(toys, first, 8, start="f" * 64): "",
        toys.run / "models" / "toys9_epochs6.safetensors": f"it is the same file as {second.stem}",
        toys.run / "models" / "mine.safetensors": "by its card it would be called toys9_epochs",
    }
    damaged, other_start_model, copied, misnamed = list(reasons)[4:]
    damaged.write_bytes(damaged.read_bytes()[:-9])
    shutil.copy(second, copied)
    write_checkpoint(misnamed, read_state(third), card_of(add_model(toys, third, 9)))
    (toys.run / "models" / f"toys9_epochs{card_of(third).training['epochs']}.safetensors").unlink(missing_ok=True)
    shutil.copy(second, copied)
    start = toys.run / "models" / "other_start.safetensors"  # Starts and soups are no ingredients.
    write_checkpoint(start, state, card_of(first).model_copy(update={"kind": "start"}))
    assert main.main(["--inspect"]) == 0
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err
    table = pd.read_csv(toys.run / "output" / "inspection.csv", keep_default_na=False).set_index("name")
    assert len(table) == 3 + len(reasons)
    for path, reason in reasons.items():
        assert reason in table.loc[path.stem, "why"], path
        if path != other_start_model:
            assert table.loc[path.stem, "drop"] == "" and f"{path.stem}: " in captured.out
    reason = table.loc[other_start_model.stem, "why"] + table.loc[other_start_model.stem, "notes"]
    assert reason.startswith("it comes from another start")
    assert captured.out.splitlines()[-1].startswith(f"{(table['why'] == '').sum()} of 11 can be souped; leave out ")
    assert "other_start" not in captured.out


def test_a_model_of_another_start_is_found_by_its_barrier(
    toys: InspectedRun, capsys: pytest.CaptureFixture[str]
) -> None:
    first = models_of(toys)[0]
    odd = add_model(toys, first, 3, {key: -3 * value for key, value in read_state(first).items()})
    assert main.main(["--inspect"]) == 0
    row = toys.table().loc[odd.stem]
    assert float(row["drop"]) > 0.02 and float(row["angle"]) > 80
    assert row["why"].startswith("it seems to come from another start (") and "in a direction of its own)" in row["why"]
    assert f"leave out {odd.stem}" in capsys.readouterr().out
    start = (toys.run / "models" / "toys_start.safetensors").rename("elsewhere.safetensors")
    assert main.main(["--inspect", "--start", str(start)]) == 0
    assert "distances from the start elsewhere" in capsys.readouterr().out
    assert main.main(["--inspect"]) == 0
    text = capsys.readouterr().out
    assert "distances from the mean of the others, for want of a common start" in text
    assert toys.table().loc[odd.stem, "angle"] == ""
    others = [flat(path) for path in models_of(toys) if path not in (first, odd)]
    expected = np.linalg.norm(flat(first) - np.mean(others, axis=0))
    assert float(toys.table().loc[first.stem, "distance"]) == pytest.approx(expected)


def flat(path: Path) -> np.ndarray:
    state = read_state(path)
    return np.concatenate([state[key].double().numpy().ravel() for key in sorted(state)])


def test_a_single_model_and_an_empty_run(toys: InspectedRun, capsys: pytest.CaptureFixture[str]) -> None:
    for path in models_of(toys)[1:]:
        path.unlink()
    assert main.main(["--inspect"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "there is only one model: nothing to soup"
    models_of(toys)[0].unlink()
    assert main.main(["--inspect"]) == 3
    assert "no models of run 'toys'" in capsys.readouterr().err
