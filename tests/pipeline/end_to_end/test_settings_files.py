"""Settings files for training and votes, mistakes in them, numbered run names, and learning curves."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import finetune
import inference
import main
from soups import commands
from soups.checkpoints.card import read_card
from soups.cli import flags as cli
from soups.files.atomic import write_text
from soups.pipeline.settings.commands import FinetuneSettings, InferenceSettings

ToyRun = Any
PrintedText = Callable[[], str]
EXAMPLES = Path(__file__).parents[3] / "examples" / "fake_or_real"
EVERYTHING = """
loss_fn: BCEWithLogitsLoss
smoothing: 0.1
optimizer: momentum
momentum: 0.8
lr: 1e-2
scheduler: step
decay-epochs: 1
decay_rate: 0.5
warmup: 0
epochs: 3
batch_size: 8
metric: log_loss
patience: 2
augmentation: randaugment
aug: rand-m3-n1
i: 7
"""


@pytest.fixture
def finetune_with_file(toy_run_copy: ToyRun, tmp_path: Path) -> Callable[..., int]:
    """A function that runs finetune.py with a settings file of the given content, and returns the exit code."""

    def run(content: str, *flags: str) -> int:
        (tmp_path / "train.yaml").write_text(content)
        return finetune.main(["--config", str(tmp_path / "train.yaml"), *flags])

    return run


def test_a_settings_file_can_hold_every_setting(toy_run_copy: ToyRun, finetune_with_file: Callable[..., int]) -> None:
    assert finetune_with_file(EVERYTHING) == 0
    card = read_card(toy_run_copy.run / "models" / "toys7_epochs3.safetensors")
    assert card is not None
    expected = {"loss_fn": "BCEWithLogitsLoss", "smoothing": 0.1, "optimizer": "momentum", "momentum": 0.8, "lr": 1e-2}
    expected |= {"scheduler": "step", "decay_epochs": 1, "decay_rate": 0.5, "metric": "log_loss", "patience": 2}
    expected |= {"augmentation": "randaugment", "aug": "rand-m3-n1", "epochs": 3, "batch_size": 8}
    assert expected.items() <= card.training.items()
    lines = toy_run_copy.log("training/toys7.jsonl")
    assert [line["lr"] for line in lines] == pytest.approx([1e-2 * 0.5**n for n in range(1, 1 + len(lines))])
    assert card.scores["val"] == min((line["val"] for line in lines), key=lambda scores: scores["log_loss"])
    before = toy_run_copy.contents()
    assert finetune_with_file(EVERYTHING) == 0  # Finished.
    assert toy_run_copy.contents() == before


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ("learning_rat: 1", "line 4: unknown setting 'learning_rat'"),
        ("optimizr: adam", "line 4: unknown setting 'optimizr' next: did you mean 'optimizer'?"),
        ("optimizer: adamv", "line 4: unknown optimizer 'adamv' expected: one of adabelief"),
        ("scheduler: cosin", "line 4: unknown scheduler 'cosin' expected: one of cosine, linear, constant, step"),
        ("loss_fn: BCE", "line 4: unknown loss 'BCE'"),
        ("loss_fn: BCE", "next: did you mean 'BCEWithLogitsLoss'?"),
        ("metric: f1", "next: did you mean 'macro_f1'?"),
        ("metric: f1", "line 4: unknown metric 'f1'"),
        ("augmentation: randaugmen", "line 4: unknown augmentation 'randaugmen'"),
        ("epochs: 2.5", "line 4: epochs expected: a whole number"),
        ("patience: soon", "line 4: patience expected: a whole number"),
        ("sampler: balancd", "line 4: sampler expected: shuffled or balanced found: 'balancd'"),
        ("decay_rate: 0.5", "--decay-rate: the scheduler 'cosine' does not use it"),
        ("momentum: 0.5", "--momentum: the optimizer 'adamw' has no momentum"),
        ("training:\n  lr: 1", "line 4: unknown setting 'training'"),
    ],
)
def test_a_wrong_settings_file_is_refused_before_anything_is_written(
    toy_run: ToyRun,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    printed_text: PrintedText,
    wrong: str,
    words: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    content = f"# a\nval_ratio: 0.5\ndata-location: {toy_run.data}\n{wrong}\nmodel: local-dir:{toy_run.clip}\n"
    Path("train.yaml").write_text(content)
    assert finetune.main(["--config", "train.yaml", "--name", "wrong"]) == 2
    assert words in printed_text()
    assert not Path("runs/wrong").exists() and not Path("runs/latest").exists()


def test_early_stopping_watches_the_metric_that_the_run_recorded(toy_run_copy: ToyRun) -> None:
    text = (toy_run_copy.run / "settings.yaml").read_text()
    (toy_run_copy.run / "settings.yaml").write_text(text.replace("metric: accuracy", "metric: macro_f1"))
    assert toy_run_copy.finetune("--i", "8", "--epochs", "1", "--patience", "1") == 0
    assert toy_run_copy.finetune("--i", "9", "--epochs", "1", "--patience", "1", "--metric", "log_loss") == 0
    cards = [read_card(toy_run_copy.run / "models" / f"toys{index}_epochs1.safetensors") for index in (8, 9)]
    assert [card.training["metric"] for card in cards if card is not None] == ["macro_f1", "log_loss"]


def test_cards_without_a_newer_setting_count_as_finished_and_new_defaults_are_not_recorded(
    toy_run_copy: ToyRun, printed_text: PrintedText
) -> None:
    card = read_card(next(toy_run_copy.run.glob("models/toys0_epochs*")))
    assert card is not None
    assert not {"scheduler", "decay_epochs", "decay_rate", "momentum"} & card.training.keys()
    drawn = ["--hparams", "random", "--lr-range", "5e-4", "2e-3", "--epochs-range", "2", "3"]
    assert toy_run_copy.finetune("--i", "0", *drawn) == 0
    assert "finished already" in printed_text()
    assert toy_run_copy.finetune("--i", "0", *drawn, "--scheduler", "linear") == 2
    assert "recorded: --scheduler cosine given: --scheduler linear" in printed_text()


# New runs by serial


def test_a_new_run_takes_the_next_free_name(toy_run_copy: ToyRun, printed_text: PrintedText) -> None:
    assert toy_run_copy.finetune("--new", "--epochs", "1") == 0
    assert "run toys-2: the name toys is taken" in printed_text()
    assert toy_run_copy.finetune("--new", "--i", "0", "--epochs", "1") == 0
    runs = toy_run_copy.folder / "runs"
    assert sorted(path.name for path in runs.glob("toys*")) == ["toys", "toys-2", "toys-3"]
    assert (runs / "latest").read_text() == "toys-3\n"
    first, second = (runs / name / "models" / f"{name}_i0_epochs1.safetensors" for name in ("toys-2", "toys-3"))
    assert read_card(first) == read_card(second)
    for command, model in (("validation", "toys-2_i0"), ("export", "toys-2_i0.safetensors"), ("inference", "toys1")):
        assert commands.run(command, ["--name", "toys-2", "--model-name", model]) == 0
    assert len(list((runs / "toys-2" / "output").glob("toys-2_i0_epochs1*"))) >= 2
    # Without --new the named run goes on, under its own name; what is finished stays.
    flags = [flag if flag != "toys" else "toys-2" for flag in toy_run_copy.flags]
    assert finetune.main([*flags, *toy_run_copy.training, "--i", "0", "--epochs", "1"]) == 0
    assert "finished already" in printed_text()


def test_the_name_of_a_new_run_may_come_from_the_data_and_from_a_file(
    toy_run_copy: ToyRun, tmp_path: Path, printed_text: PrintedText
) -> None:
    settings = f"data_location: {toy_run_copy.data}\nmodel: local-dir:{toy_run_copy.clip}\n"
    settings += "val_ratio: 0.5\nepochs: 1\nnew: yes\n"
    (tmp_path / "new.yaml").write_text(settings)
    (toy_run_copy.folder / "runs" / "colours").mkdir()
    assert finetune.main(["--config", str(tmp_path / "new.yaml")]) == 0
    assert (toy_run_copy.folder / "runs" / "latest").read_text() == "colours-2\n"
    printed_text()
    assert finetune.main(["--new", "--name", "toys"]) == 2  # Of which data?
    assert "--data-location is missing" in printed_text()
    assert not (toy_run_copy.folder / "runs" / "toys-2").exists()


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--class-weights", "pink=2"], "pink"),
        (["--i", "7-8", "--jobs", "2", "--oversample", "pink=2"], "2 of 2 fine-tunes failed"),
        (["--hparams", "none.json"], "none.json"),
        (["--start-from", "nowhere"], "nowhere"),
        (["--device", "cuda:77"], "--device cuda:77"),
    ],
)
def test_a_start_that_was_refused_leaves_no_run(
    toy_run_copy: ToyRun, printed_text: PrintedText, flags: list[str], words: str
) -> None:
    flags_of_run = [flag if flag != "toys" else "new" for flag in toy_run_copy.flags]
    write_text(Path("runs/latest"), "another\n")
    before = {name: content for name, (_, content) in toy_run_copy.contents().items()}
    for run in (flags_of_run, toy_run_copy.flags):
        assert finetune.main([*run, *toy_run_copy.training, "--i", "7", *flags]) in (2, 3, 4, 5)
        assert words in printed_text()
        assert {name: content for name, (_, content) in toy_run_copy.contents().items()} == before
    assert not (toy_run_copy.folder / "runs" / "new").exists()


# Learning curves


def test_learning_curves_of_each_model_and_of_the_pool(
    toy_run_copy: ToyRun, capsys: pytest.CaptureFixture[str]
) -> None:
    figures = toy_run_copy.run / "figures"
    assert (figures / "learning_curves.png").exists()  # `--plot` drew it.
    (figures / "learning_curves.png").unlink()
    assert main.main(["--learning-curves"]) == 0
    folder = Path("runs/toys/figures/learning_curves")
    assert capsys.readouterr().out.split() == [str(folder), f"{folder}.png"]
    assert sorted(path.name for path in folder.iterdir()) == ["toys0.png", "toys1.png", "toys2.png"]
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.iterdir()}
    (folder / "toys1.png").unlink()
    assert main.main(["--learning-curves"]) == 0
    after = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.iterdir()}
    assert {path: content for path, (content, _) in before.items()} == {path: each[0] for path, each in after.items()}
    assert [path.name for path in folder.iterdir() if before[path] != after[path]] == ["toys1.png"]


def test_models_without_a_log_have_no_curve(toy_run_copy: ToyRun, printed_text: PrintedText) -> None:
    logs = toy_run_copy.run / "logs" / "training"
    (logs / "toys1.jsonl").unlink()
    assert main.main(["--learning-curves"]) == 0
    assert "toys1: no log of this training; its curve is left out" in printed_text()
    assert not (toy_run_copy.run / "figures" / "learning_curves" / "toys1.png").exists()
    shutil.rmtree(logs)
    assert main.main(["--learning-curves"]) == 3
    assert "run 'toys': no fine-tune has a log of its training expected: runs/toys/logs/training/" in printed_text()


# Examples


def test_a_vote_that_a_file_describes(toy_run_copy: ToyRun, printed_text: PrintedText) -> None:
    for name, answers in {"a": "xy", "b": "yy", "c": "yx"}.items():
        pd.DataFrame({"id": ["007", "8"], "answer": list(answers)}).to_csv(f"{name}.csv", index=False)
    Path("vote.yaml").write_text("hard_voting:\n  - a.csv\n  - b.csv\n  - c.csv\noutput: vote.csv\n")
    assert inference.main(["--config", "vote.yaml"]) == 0
    assert Path("vote.csv").read_text().splitlines() == ["id,answer", "007,y", "8,y"]
    printed_text()
    Path("vote.yaml").write_text("hard_voting: [a.csv, bb.csv]\noutput: other.csv\n")
    assert inference.main(["--config", "vote.yaml"]) == 3
    assert "bb.csv: no such file" in printed_text()
    assert not Path("other.csv").exists()
    Path("vote.yaml").write_text("hard_votin: [a.csv]\n")
    assert inference.main(["--config", "vote.yaml"]) == 2
    assert "vote.yaml, line 1: unknown setting 'hard_votin' next: did you mean 'hard_voting'?" in printed_text()


@pytest.mark.parametrize("section", ["", "#efficientnet", "#swin"])
def test_the_example_settings_files_of_training_are_valid(section: str, tmp_path: Path) -> None:
    content = (EXAMPLES / "train.yaml").read_text()
    if not section:  # Its sections are for --config FILE#SECTION.
        content = content[: content.index("efficientnet:")]
    (tmp_path / "train.yaml").write_text(content)
    settings = cli.parse(FinetuneSettings, ["--config", f"{tmp_path / 'train.yaml'}{section}"], {}).settings
    assert settings.training.loss_fn == "BCEWithLogitsLoss" and settings.evaluation.metric == "macro_f1"
    assert settings.training.scheduler == ("step" if section == "#swin" else "cosine")
    assert settings.training.lr == (1e-4 if section == "#efficientnet" else 1e-5)


def test_the_example_file_of_a_vote_names_tables() -> None:
    settings = cli.parse(InferenceSettings, ["--config", str(EXAMPLES / "vote.yaml")], {}).settings
    assert settings.hard_voting is not None and len(settings.hard_voting) == 3
    assert all(name.endswith(".csv") for name in settings.hard_voting)


def test_the_settings_file_of_a_run_repeats_the_run_or_one_of_its_models(
    toy_run_copy: ToyRun, printed_text: Callable[[], str]
) -> None:
    toys, record = toy_run_copy, Path("elsewhere.yaml")
    assert toys.finetune("--i", "4", "--augmentation", "randaugment", "--loss-fn", "LabelSmoothingLoss") == 0
    shutil.copy(toys.run / "settings.yaml", record)
    shutil.copytree(toys.run / "models", "models")
    shutil.rmtree("runs")  # The file alone is enough.
    assert finetune.main(["--config", str(record), "--name", "redone"]) == 0
    assert finetune.main(["--config", f"{record}#toys1", "--name", "one"]) == 0
    assert finetune.main(["--config", str(record), "--name", "some", "--i", "0,4"]) == 0
    made = {path.name: path.read_bytes() for path in Path("models").glob("*_epochs*")}
    assert len(made) == 4
    for name, wanted in {"redone": set("0124"), "one": {"1"}, "some": {"0", "4"}}.items():
        folder = Path("runs") / name / "models"
        own = {path.name.replace(name, "toys"): path.read_bytes() for path in folder.glob("*_epochs*")}
        assert own == {each: content for each, content in made.items() if each[4] in wanted}
        assert (folder / f"{name}_start.safetensors").read_bytes() == Path("models/toys_start.safetensors").read_bytes()
    redone = Path("runs/redone/settings.yaml").read_text().replace("redone", "toys")
    assert redone == record.read_text(), "the record of the repetition is equal"
    printed_text()
    assert finetune.main(["--config", str(record), "--name", "some", "--i", "7"]) == 2
    assert "--i 7: elsewhere.yaml has no such model expected: one of 0, 1, 2, 4" in printed_text()
    assert finetune.main(["--config", str(record), "--name", "other", "--i", "1", "--epochs", "1"]) == 0
    assert Path("runs/other/models/other1_epochs1.safetensors").exists(), "a flag wins over the file"
    assert main.main(["--config", str(record), "--name", "redone", "--uniform-soup", "--scores", "False"]) == 0


def test_settings_files_of_older_runs_are_read(toy_run_copy: ToyRun) -> None:
    record = toy_run_copy.run / "settings.yaml"
    record.write_text(record.read_text().partition("\n# Settings of each")[0])
    assert finetune.main(["--config", str(record), "--name", "new", "--i", "0", *toy_run_copy.training]) == 0
    assert toy_run_copy.finetune("--i", "0", "--hparams", "random", "--lr-range", "5e-4", "2e-3") == 2
    assert "toys2: {i: 2, hparams: recorded, " in record.read_text(), "what is missing is added"
