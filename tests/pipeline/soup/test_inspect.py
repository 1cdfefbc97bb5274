"""`main.py --inspect` on toy models: what it measures, and that it finds those that do not belong."""

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
from soups.pipeline.soup import barriers
from soups.pipeline.soup.barriers import Barrier, measure_barriers
from soups.recipes.shared.pool import Ingredient


class Desk:
    """A working folder with a run of three toy models that nobody has scored."""

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
def trained(tmp_path_factory: pytest.TempPathFactory, toy_data: Path, tiny_clip: Path) -> Desk:
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
    return Desk(folder, toy_data)


@pytest.fixture
def desk(trained: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    """A copy that a test may change."""
    shutil.copytree(trained.folder, tmp_path / "desk")
    monkeypatch.chdir(tmp_path / "desk")
    return Desk(tmp_path / "desk", trained.data)


def models_of(desk: Desk) -> list[Path]:
    return sorted(desk.run.glob("models/toys?_epochs*.safetensors"))


def card_of(path: Path) -> Card:
    card = read_card(path)
    assert card is not None
    return card


def plant(desk: Desk, path: Path, index: int, state: Mapping[str, torch.Tensor] | None = None, **more: Any) -> Path:
    """A model of the run's naming made from another."""
    card = card_of(path)
    card = card.model_copy(update={"training": {**card.training, "index": index}, **more})
    planted: Path = desk.run / "models" / f"toys{index}_epochs{card.training['epochs']}.safetensors"
    write_checkpoint(planted, read_state(path) if state is None else state, card)
    return planted


def test_what_is_measured(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["--inspect"]) == 0
    text = capsys.readouterr().out
    paths = models_of(desk)
    table = pd.read_csv(desk.run / "output" / "inspection.csv").set_index("name")
    assert list(table.index) == [path.stem for path in paths]
    start = read_state(desk.run / "models" / "toys_start.safetensors")
    samples = pd.read_csv(desk.run / "samples.csv", dtype=str)
    rows = samples[samples["split"] == "val"]
    images = [desk.data / image for image in rows["image"]]
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
            soups.average([path, desk.run / "models" / f"{best}.safetensors"]).save("middle.safetensors")
            middle = accuracy(Path("middle.safetensors"), images, rows["label"])
            assert table.loc[name, "midpoint"] == pytest.approx(middle)
            assert table.loc[name, "drop"] == pytest.approx((scores[name] + scores[best]) / 2 - middle)
            assert f"between each and {best}" in text
    assert "distances from the start toys_start" in text
    before = desk.contents()
    assert main.main(["--inspect"]) == 0
    assert capsys.readouterr().out == text and desk.contents() == before
    lines = [json.loads(line) for line in (desk.run / "logs" / "inspection.jsonl").read_text().splitlines()]
    assert [line["model_name"] for line in lines] == [path.stem for path in paths]
    assert [line["can_be_souped"] for line in lines] == [not line["why"] for line in lines]


def accuracy(path: Path, images: list[Path], labels: "pd.Series[str]") -> float:
    answers = soups.load(path, device="cpu").predict(pd.DataFrame({"image": [str(image) for image in images]}))
    return float((answers["target"].to_numpy() == labels.to_numpy()).mean())


def test_those_that_do_not_belong(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    first, second, third = models_of(desk)
    state = read_state(first)
    broken = {**state, "head.bias": torch.tensor([0.0, float("nan"), 0.0])}
    reasons = {
        plant(desk, first, 3, broken): "its tensor 'head.bias' holds NaN or infinity",
        plant(desk, first, 4, classes=("blue", "green", "rot")): "it has another list of classes",
        plant(desk, first, 5, {key: value.half() for key, value in state.items()}): "float16",
        plant(desk, first, 6, {**state, "more": torch.ones(2)}): "it has an extra tensor 'more'",
        plant(desk, first, 7): "it cannot be read: not a whole safetensors file",
        plant(desk, first, 8, start="f" * 64): "",
        desk.run / "models" / "toys9_epochs6.safetensors": f"it is the same file as {second.stem}",
        desk.run / "models" / "mine.safetensors": "by its card it would be called toys9_epochs",
    }
    damaged, stranger, copied, misnamed = list(reasons)[4:]
    damaged.write_bytes(damaged.read_bytes()[:-9])
    shutil.copy(second, copied)
    write_checkpoint(misnamed, read_state(third), card_of(plant(desk, third, 9)))
    (desk.run / "models" / f"toys9_epochs{card_of(third).training['epochs']}.safetensors").unlink(missing_ok=True)
    shutil.copy(second, copied)
    start = desk.run / "models" / "other_start.safetensors"  # Starts and soups are nobody's ingredients.
    write_checkpoint(start, state, card_of(first).model_copy(update={"kind": "start"}))
    assert main.main(["--inspect"]) == 0
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err
    table = pd.read_csv(desk.run / "output" / "inspection.csv", keep_default_na=False).set_index("name")
    assert len(table) == 3 + len(reasons)
    for path, reason in reasons.items():
        assert reason in table.loc[path.stem, "why"], path
        if path != stranger:
            assert table.loc[path.stem, "drop"] == "" and f"{path.stem}: " in captured.out
    told = table.loc[stranger.stem, "why"] + table.loc[stranger.stem, "notes"]
    assert told.startswith("it comes from another start")
    assert captured.out.splitlines()[-1].startswith(f"{(table['why'] == '').sum()} of 11 can be souped; leave out ")
    assert "other_start" not in captured.out


def test_a_stranger_is_found_by_its_barrier(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    first = models_of(desk)[0]
    odd = plant(desk, first, 3, {key: -3 * value for key, value in read_state(first).items()})
    assert main.main(["--inspect"]) == 0
    row = desk.table().loc[odd.stem]
    assert float(row["drop"]) > 0.02 and float(row["angle"]) > 80
    assert row["why"].startswith("it seems to come from another start (") and "in a direction of its own)" in row["why"]
    assert f"leave out {odd.stem}" in capsys.readouterr().out
    start = (desk.run / "models" / "toys_start.safetensors").rename("elsewhere.safetensors")
    assert main.main(["--inspect", "--start", str(start)]) == 0
    assert "distances from the start elsewhere" in capsys.readouterr().out
    assert main.main(["--inspect"]) == 0
    text = capsys.readouterr().out
    assert "distances from the mean of the others, for want of a common start" in text
    assert desk.table().loc[odd.stem, "angle"] == ""
    others = [flat(path) for path in models_of(desk) if path not in (first, odd)]
    expected = np.linalg.norm(flat(first) - np.mean(others, axis=0))
    assert float(desk.table().loc[first.stem, "distance"]) == pytest.approx(expected)


def flat(path: Path) -> np.ndarray:
    state = read_state(path)
    return np.concatenate([state[key].double().numpy().ravel() for key in sorted(state)])


def test_nothing_to_inspect(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    for path in models_of(desk)[1:]:
        path.unlink()
    assert main.main(["--inspect"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "there is only one model: nothing to soup"
    models_of(desk)[0].unlink()
    assert main.main(["--inspect"]) == 3
    assert "no models of run 'toys'" in capsys.readouterr().err


def ingredient(name: str, score: float) -> Ingredient:
    return Ingredient(name, name, score, 0.0, dict)


@pytest.mark.parametrize(
    ("apart", "reference", "turned_away"),
    [
        (set(), "a", set()),
        ({"c"}, "a", {"c"}),
        ({"a"}, "b", {"a"}),  # The best model is itself the stranger.
        ({"a", "b", "c", "d"}, "a", {"b", "c", "d"}),  # Nobody mixes: the best stays the one to compare with.
    ],
)
def test_the_model_compared_with_is_one_of_the_many(
    apart: set[str], reference: str, turned_away: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def barrier(_bench: object, _judge: object, one: Ingredient, other: Ingredient) -> Barrier:
        drop = 0.3 if one.name in apart or other.name in apart else 0.01
        return Barrier(0.5, drop, drop - 0.005, drop + 0.005)

    monkeypatch.setattr(barriers, "barrier_between", barrier)
    pool = [ingredient(name, 1 - index / 10) for index, name in enumerate("abcd")]
    bench: Any = None
    found, measured = measure_barriers(bench, pool, bench)
    assert found.name == reference and set(measured) == set("abcd") - {reference}
    assert {name for name, each in measured.items() if each.beyond_noise} == turned_away
    found, measured = measure_barriers(bench, pool, bench, doubtful={"a", "b"})
    assert found.name not in ("a", "b") and len(measured) == 3


@pytest.mark.parametrize(
    ("drop", "low", "harms"), [(0.03, 0.01, True), (0.03, -0.01, False), (0.015, 0.01, False), (-0.1, -0.2, False)]
)
def test_what_is_noise(drop: float, low: float, harms: bool) -> None:
    assert Barrier(0.9, drop, low, 2 * drop - low).beyond_noise is harms
