"""The command `inference`: predictions and votes on toy images; validation of a model."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import inference
import soups
import validation
from soups.checkpoints.card import read_card
from soups.files.atomic import sha256_of

ToyRun = Any
PrintedText = Callable[[], str]


def test_predictions_in_our_own_columns(
    toy_run: ToyRun, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(toy_run.folder)
    assert inference.main(["--probabilities"]) == 0
    captured = capsys.readouterr()
    chosen = toy_run.log("choice.jsonl")[-1]["answer"]
    assert Path(captured.out.strip()) == Path(f"runs/toys/output/{chosen}.csv")
    assert "of 18 right" in captured.err
    table = pd.read_csv(captured.out.strip())
    assert list(table.columns) == ["image", "target", "confidence", "blue", "green", "red"]
    assert len(table) == 18
    assert np.allclose(table[["blue", "green", "red"]].sum(axis=1), 1)
    assert np.allclose(table[["blue", "green", "red"]].max(axis=1), table["confidence"])
    frame = pd.DataFrame({"image": [str(toy_run.data / name) for name in table["image"]]})
    again = soups.load(f"runs/toys/models/{chosen}.safetensors", device="cpu").predict(frame)
    assert again["target"].tolist() == table["target"].tolist()
    assert np.allclose(again["confidence"], table["confidence"], atol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "file"),
    [
        (["--soft-voting"], "soft_voting"),
        (["--hard-voting"], "hard_voting"),
        (["--weighted-ensemble"], "weighted_ensemble"),
        (["--model-name", "toys_start.pt", "--soft-voting", "toys_uniform_soup"], "soft_voting"),
    ],
)
def test_ways_of_voting(
    toy_run_copy: ToyRun, arguments: list[str], file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert inference.main(arguments) == 0
    path = Path(capsys.readouterr().out.strip())
    assert path == Path("runs/toys/output") / f"{file}.csv"
    assert len(pd.read_csv(path)) == 18


def test_each_model_by_itself(toy_run_copy: ToyRun, capsys: pytest.CaptureFixture[str]) -> None:
    assert inference.main(["--each"]) == 0
    paths = [Path(line) for line in capsys.readouterr().out.split()]
    assert [path.stem for path in paths] == sorted(
        path.stem for path in (toy_run_copy.run / "models").glob("*_epochs*")
    )
    for path in paths:
        assert inference.main(["--model-name", path.stem, "--output", "alone.csv"]) == 0
        assert Path("alone.csv").read_text() == path.read_text()
    assert inference.main(["--hard-voting", *map(str, paths), "--output", "vote.csv"]) == 0
    assert inference.main(["--each", "--model-name", "toys_start"]) == 0


def test_weights_given_are_used(toy_run_copy: ToyRun, capsys: pytest.CaptureFixture[str]) -> None:
    tables = {}
    for name, arguments in {
        "one": ["--model-name", "toys_start", "--probabilities"],
        "other": ["--model-name", "toys_uniform_soup", "--probabilities"],
        "both": ["--weighted-ensemble", "toys_start=1", "toys_uniform_soup=3", "--probabilities"],
    }.items():
        assert inference.main([*arguments, "--output", f"{name}.csv"]) == 0
        tables[name] = pd.read_csv(f"{name}.csv").set_index("image")[["blue", "green", "red"]]
    assert np.allclose(tables["both"], 0.25 * tables["one"] + 0.75 * tables["other"])


def test_hard_voting_over_tables_needs_no_model(toy_run_copy: ToyRun, printed_text: PrintedText) -> None:
    for name, answers in {"a": "xy", "b": "yy", "c": "yx"}.items():
        pd.DataFrame({"id": ["007", "8"], "answer": list(answers)}).to_csv(f"{name}.csv", index=False)
    assert inference.main(["--hard-voting", "a.csv", "b.csv", "c.csv", "--output", "vote.csv"]) == 0
    assert Path("vote.csv").read_text().splitlines() == ["id,answer", "007,y", "8,y"]
    pd.DataFrame({"id": ["007", "9"], "answer": ["x", "y"]}).to_csv("d.csv", index=False)
    assert inference.main(["--hard-voting", "a.csv", "d.csv", "--output", "vote2.csv"]) == 3
    assert "d.csv: lacks 1 image: 8" in printed_text()
    assert not Path("vote2.csv").exists()


def test_tables_with_probabilities_vote_as_their_models(toy_run_copy: ToyRun, printed_text: PrintedText) -> None:
    models = ["toys_start", "toys_uniform_soup"]
    for name in models:
        assert inference.main(["--model-name", name, "--probabilities", "--output", f"{name}.csv"]) == 0
        pd.read_csv(f"{name}.csv").sample(frac=1, random_state=0).to_csv(f"{name}_mixed.csv")  # With pandas' index.
    tables = [f"{models[0]}.csv", f"{models[1]}_mixed.csv"]
    for flags, members, weights in (
        (["--soft-voting"], models, ["", ""]),
        (["--weighted-ensemble"], models, ["=1", "=3"]),
        (["--hard-voting"], [*models], ["", ""]),
        (["--vote", "minmax"], models, ["", ""]),
    ):
        names = [f"{member}{weight}" for member, weight in zip(members, weights, strict=True)]
        assert inference.main([*flags, *names, "--probabilities", "--output", "models.csv"]) == 0
        names = [f"{table}{weight}" for table, weight in zip(tables, weights, strict=True)]
        assert inference.main([*flags, *names, "--output", "tables.csv"]) == 0
        expected, found = pd.read_csv("models.csv"), pd.read_csv("tables.csv")
        if flags != ["--hard-voting"]:  # Ties between two tables go to the higher confidence, as between models.
            pd.testing.assert_frame_equal(found, expected, check_exact=False, atol=1e-6)
        assert found["target"].tolist() == expected["target"].tolist()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--model-name", "a.csv"], "--model-name a.csv: a table, not a model"),
        (["--soft-voting", "a.csv", "toys_start"], "toys_start is not a CSV"),
        (["--soft-voting", "a.csv=1", "b.csv=2"], "--soft-voting takes no weights next: use --weighted-ensemble"),
        (["--weighted-ensemble", "a.csv", "b.csv"], "tables without weights, which are fitted only for models"),
        (["--weighted-ensemble", "a.csv=1", "--formula", "original"], "--formula original joins models, not tables"),
    ],
)
def test_tables_are_never_read_as_models(
    toy_run_copy: ToyRun, arguments: list[str], words: str, printed_text: PrintedText
) -> None:
    for name in ("a.csv", "b.csv"):
        Path(name).write_text("image,label\nx,blue\n")
    assert inference.main([*arguments, "--output", "vote.csv"]) == 2
    assert words in printed_text()
    assert validation.main(["--model-name", "a.csv"]) == 2
    assert "a.csv: a table of predictions, not a model" in printed_text()


def test_the_right_answers_of_a_vote_over_tables_are_counted(toy_run_copy: ToyRun, printed_text: PrintedText) -> None:
    Path("a.csv").write_text("image,label\nx,blue\ny,red\n")
    Path("t.csv").write_text("image,label\ny.png,red\nx.png,red\n")
    assert inference.main(["--hard-voting", "a.csv", "--ground-truth", "t.csv"]) == 0
    assert "1 of 2 right (50.0%)" in printed_text() and Path("runs/toys/output/hard_vote_of_tables.csv").is_file()


def test_the_template_gives_columns_order_and_kind_of_answer(toy_run_copy: ToyRun, tmp_path: Path) -> None:
    elsewhere = tmp_path / "eval"
    (elsewhere / "images").mkdir(parents=True)
    names = []
    for path in sorted((toy_run_copy.data / "test").rglob("*.png"))[::5]:
        names.append(f"{path.parent.name}-{path.name}")
        shutil.copy(path, elsewhere / "images" / names[-1])
    pd.DataFrame({"ImageID": names[::-1], "ans": [0] * len(names)}).to_csv(elsewhere / "info.csv", index=False)
    assert inference.main(["--test-location", str(elsewhere), "--output", "sub.csv"]) == 0
    table = pd.read_csv("sub.csv")
    assert list(table.columns) == ["ImageID", "ans"]
    assert table["ImageID"].tolist() == names[::-1]
    assert set(table["ans"]) <= {0, 1, 2}


def test_environment_variables_stand_for_flags(
    toy_run_copy: ToyRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SM_CHANNEL_EVAL", str(toy_run_copy.data / "shifts" / "dark"))
    monkeypatch.setenv("SM_CHANNEL_MODEL", str(toy_run_copy.run / "models"))
    monkeypatch.setenv("SM_OUTPUT_DATA_DIR", str(tmp_path / "out"))
    assert inference.main(["--model-name", "toys_start"]) == 0
    assert len(pd.read_csv(tmp_path / "out" / "toys_start.csv")) == 18


def test_validation_prints_tables_and_draws_pictures(toy_run_copy: ToyRun, capsys: pytest.CaptureFixture[str]) -> None:
    (toy_run_copy.run / "logs" / "choice.jsonl").unlink()
    assert validation.main([]) == 0  # Without a choice, the greedy soup.
    text = capsys.readouterr().out
    assert "validation images right" in text
    assert "precision %" in text and "truth ↓" in text
    for kind in ("confusion", "wrong"):
        assert (toy_run_copy.run / "figures" / f"toys_greedy_soup_{kind}.png").stat().st_size > 1000


def original_state(path: Path) -> dict[str, torch.Tensor]:
    """Return a model's state dict with the keys of the original model-soups code and some of a text tower."""
    state = soups.load(path, device="cpu").classifier.state_dict()
    renamed = {
        f"module.model.visual.{key.removeprefix('backbone.')}": state[key] for key in state if "head." not in key
    }
    renamed |= {f"module.classification_head.{part}": state[f"head.{part}"] for part in ("weight", "bias")}
    return renamed | {"module.model.logit_scale": torch.tensor(4.6)}


def test_state_dicts_of_the_original_code_predict_the_same_and_can_be_started_from(toy_run_copy: ToyRun) -> None:
    ours = toy_run_copy.run / "models" / "toys_uniform_soup.safetensors"
    Path("original").mkdir()
    torch.save(original_state(ours), "original/model_12.pt")
    for name, output in ((str(ours), "ours.csv"), ("original/model_12.pt", "theirs.csv")):
        assert inference.main(["--model-name", name, "--output", output, "--probabilities"]) == 0
    assert Path("ours.csv").read_text() == Path("theirs.csv").read_text()
    assert toy_run_copy.finetune("--i", "12", "--start-from", "original") == 0
    card = read_card(toy_run_copy.run / "models" / "toys12_epochs2.safetensors")
    assert card is not None and card.start == sha256_of(Path("original/model_12.pt"))
