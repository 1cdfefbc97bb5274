"""The command `search` on toys: trials as ingredients, pruned, failed and removed ones, invalid settings."""

import hashlib
import shutil
import socket
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import wandb
from safetensors.torch import load_file

import main
from soups.checkpoints.card import read_card
from soups.checkpoints.checkpoint import write_checkpoint
from soups.core.errors import TrainingDiverged, UsageError
from soups.pipeline.run.run import Run
from soups.pipeline.search import results as search_results
from soups.pipeline.search import search as searching
from soups.report.figures.search import draw_search_figures
from soups.training.samplers import PRUNERS
from tests.pipeline.searching import ONE_RATE, SPACE, ToySearch

PrintedText = Callable[[], str]


def test_trials_are_ingredients(toy_search_copy: ToySearch, capsys: pytest.CaptureFixture[str]) -> None:
    rows = toy_search_copy.rows()
    assert [(row["trial"], row["state"], row["kept"]) for row in rows] == [
        (str(n), "complete", "True") for n in range(3)
    ]
    for row in rows:
        card = read_card(toy_search_copy.run / "models" / f"{row['model']}.safetensors")
        assert card is not None and card.training["index"] == int(row["trial"])
        assert card.training["lr"] == float(row["lr"]) and card.training["optimizer"] == row["optimizer"]
        assert card.training["mix"] == (float(row["mix"]) if row["mix_used"] == "True" else 0)
        assert card.scores["val"]["log_loss"] == float(row["log_loss"]) and card.training["batch_size"] == 8
        assert toy_search_copy.epochs(int(row["trial"])) == card.training["epochs"]
    before = {path: path.read_bytes() for path in toy_search_copy.folder.rglob("*") if path.is_file()}
    assert toy_search_copy.search() == 0
    text = capsys.readouterr().out
    best = min(rows, key=lambda row: float(row["log_loss"]))
    assert text.startswith("search toys: 3 complete\n") and text.splitlines()[3].split()[0] == best["trial"]
    changed = [path.name for path, content in before.items() if path.read_bytes() != content]
    assert not changed
    assert main.main(["--greedy-soup", "--name", "toys"]) == 0
    soup = read_card(toy_search_copy.run / "models" / "toys_greedy_soup.safetensors")
    assert soup is not None and soup.soup is not None and soup.soup.ingredients[0].name in toy_search_copy.models()


def test_the_objective_soup_is_the_gain_of_the_greedy_soup(unstarted_search: ToySearch) -> None:
    assert unstarted_search.search("--objective", "soup") == 0
    rows, losses = unstarted_search.rows(), []
    for count in (1, 2, 3):  # The same gains, from the soups themselves.
        names = [row["model"] for row in rows[:count]]
        flags = ["--name", "toys", "--greedy-soup", "--soup-name", f"of{count}", "--ingredients", *names]
        assert main.main(flags) == 0
        card = read_card(unstarted_search.run / "models" / f"of{count}.safetensors")
        assert card is not None
        losses.append(card.scores["val"]["log_loss"])
    gains = [0.0, *(before - after for before, after in pairwise(losses))]
    assert [float(row["soup"]) for row in rows] == pytest.approx(gains, abs=1e-12)


def test_keep_removes_checkpoints_that_no_soup_needs(unstarted_search: ToySearch) -> None:
    assert unstarted_search.search("--keep", "1", "--objective", "accuracy") == 0
    kept = {row["model"] for row in unstarted_search.rows() if row["kept"] == "True"}
    assert kept == set(unstarted_search.models())
    assert (
        unstarted_search.search("--keep", "1", "--objective", "accuracy") == 0
    )  # Trials whose checkpoints were removed are not repeated.
    assert kept == set(unstarted_search.models())
    assert main.main(["--greedy-soup", "--name", "toys"]) == 0
    card = read_card(unstarted_search.run / "models" / "toys_greedy_soup.safetensors")
    assert card is not None and card.soup is not None
    assert {part.name for part in card.soup.ingredients} == kept


def test_pruned_and_failed_trials(
    unstarted_search: ToySearch, monkeypatch: pytest.MonkeyPatch, printed_text: PrintedText
) -> None:
    class Third:
        def prune(self, study: Any, trial: Any) -> bool:
            return trial.number == 3 and bool(trial.intermediate_values)

    train_one = searching.train_one

    def train(task: Any, watch: Any) -> Path:
        if task.index == 1:
            raise TrainingDiverged("the loss became nan in epoch 1, step 2")
        if task.index == 2:
            raise UsageError("such a model cannot be")
        return train_one(task, watch)

    monkeypatch.setattr(searching, "train_one", train)
    monkeypatch.setitem(PRUNERS, "median", lambda most_epochs: Third())
    unstarted_search.write_space(ONE_RATE)
    assert unstarted_search.search("--trials", "4", "--epochs", "2", "--pruning", "median") == 5
    output = printed_text()
    assert "1 of 4 trials failed; the others are kept trial 2: such a model cannot be" in output
    assert "search toys: 1 complete, 2 pruned, 1 failed" in output
    assert "run toys in runs/toys: 4 of 4 trials to train, 0 finished data" in output
    assert [row["state"] for row in unstarted_search.rows()] == ["complete", "pruned", "failed", "pruned"]
    assert (
        unstarted_search.rows()[1]["note"] == "the loss became nan in epoch 1, step 2"
        and unstarted_search.rows()[3]["epochs_done"] == "1"
    )
    assert set(unstarted_search.models()) == {"toys0_epochs2"}


def test_hyperband_prunes_a_slow_trial(unstarted_search: ToySearch, printed_text: PrintedText) -> None:
    unstarted_search.write_space(ONE_RATE)
    # The third trial learns more slowly than the second, which is in the same bracket.
    assert unstarted_search.search("--search-seed", "7", "--epochs", "3", "--pruning", "hyperband") == 0
    rows = unstarted_search.rows()
    pruned = {int(row["trial"]) for row in rows if row["state"] == "pruned"}
    assert pruned == {2} and "search toys: 2 complete, 1 pruned" in printed_text()
    for row in rows:
        number, gone = int(row["trial"]), int(row["trial"]) in pruned
        assert (
            int(row["epochs_done"]) == unstarted_search.epochs(number) and (unstarted_search.epochs(number) < 3) == gone
        )
        assert (f"toys{number}_epochs3" in unstarted_search.models()) != gone and (row["model"] == "") == gone
    assert not list(unstarted_search.run.glob("states/*"))
    assert main.main(["--uniform-soup", "--name", "toys"]) == 0
    soup = read_card(unstarted_search.run / "models" / "toys_uniform_soup.safetensors")
    assert soup is not None and soup.soup is not None
    assert {part.name for part in soup.soup.ingredients} == set(unstarted_search.models())


def test_trials_begin_at_starts_of_a_folder(unstarted_search: ToySearch) -> None:
    starts = {}
    for number in range(11):
        source = unstarted_search.run / "models" / "toys_start.safetensors"
        card, state = read_card(source), load_file(source)
        assert card is not None
        path = unstarted_search.folder / "starts" / f"model_{number}.safetensors"
        write_checkpoint(path, {name: tensor + number / 1000 for name, tensor in state.items()}, card)
        starts[str(path.relative_to(unstarted_search.folder))] = hashlib.sha256(path.read_bytes()).hexdigest()
    flags = ("--space", "original", "--start-from", "starts", "--epochs", "1")
    assert unstarted_search.search("--trials", "2", *flags) == 0
    rows = unstarted_search.rows()
    assert {"start_model", "lr", "random_seed"} < set(rows[0]) and not {"epochs", "batch_size"} & set(rows[0])
    for row in rows:
        card = read_card(unstarted_search.run / "models" / f"{row['model']}.safetensors")
        assert card is not None
        assert card.training["start_from"] == f"starts/model_{row['start_model']}.safetensors"
        assert card.start == starts[card.training["start_from"]]
        assert card.training["random_seed"] == int(row["random_seed"]) in range(34, 49, 2)
    assert len({row["start_model"] for row in rows}) == 2
    before = unstarted_search.models()
    assert unstarted_search.search("--trials", "2", *flags) == 0 and unstarted_search.models() == before
    assert main.main(["--greedy-soup", "--name", "toys"]) == 0


def test_figures_and_a_trial_go_to_wandb(unstarted_search: ToySearch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search_results, "draw_search_figures", draw_search_figures)
    unstarted_search.write_space(ONE_RATE)
    with socket.create_server(("127.0.0.1", 0)) as service:
        monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{service.getsockname()[1]}")
        monkeypatch.setenv("WANDB_MODE", "offline")
        assert unstarted_search.search("--trials", "1", "--epochs", "1") == 0
        service.setblocking(False)
        with pytest.raises(BlockingIOError):
            service.accept()  # There was no connection.
    wandb.teardown()  # Its service writes in the background until then.
    runs = [path.read_bytes() for path in unstarted_search.folder.glob("wandb/offline-run-*/run-*.wandb")]
    assert len(runs) == 2  # One of the trial, one of the figures.
    for name in (b"toys0", b"toys-search"):
        assert sum(name in content for content in runs) == 1
    media = [path.name.split("_0_")[0] for path in unstarted_search.folder.glob("wandb/offline-run-*/files/media/*/*")]
    drawn = [path.stem for path in unstarted_search.run.glob("figures/search/*")]
    assert sorted(media) == sorted(drawn) == ["history", "parallel_coordinates", "search", "slice"]
    page = (unstarted_search.run / "figures" / "search" / "search.html").read_text(encoding="utf-8")
    assert "validation log loss" in page


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            ["--search-sampler", "qmc"],
            ["--search-sampler: differs from the recorded setting", "tpe", "qmc", "another --name"],
        ),
        (["--pruning", "median"], ["--pruning", "none", "median"]),
        (["--objective", "accuracy"], ["--objective", "log_loss", "accuracy"]),
        (["--batch-size", "4"], ["--batch-size", "recorded: 8", "given: 4"]),
        (["--space", "other.yaml"], ["--space: lr", '"high": 0.01', '"high": 0.02']),
        (["--space", "original"], ["--space: lr"]),
        (["--lr", "1e-3"], ["--lr", "recorded: 2e-05", "given: 0.001"]),
    ],
)
def test_settings_that_differ_from_the_recorded_ones_are_refused(
    toy_search_copy: ToySearch, printed_text: PrintedText, arguments: list[str], words: list[str]
) -> None:
    (toy_search_copy.folder / "other.yaml").write_text(SPACE.replace("1e-2", "2e-2"), encoding="utf-8")
    assert toy_search_copy.script("--name", "toys", *arguments) == 2
    error = printed_text()
    assert all(word in error for word in words), error


def test_a_search_of_other_images_is_refused(
    toy_search_copy: ToySearch, printed_text: PrintedText, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Run, "fingerprints", property(lambda run: ("these", "others")))
    assert toy_search_copy.script("--name", "toys") == 2
    assert "the search 'toys' in this storage has other images, labels or splits than this run" in printed_text()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--hparams", "random"], ["--hparams", "--space paper"]),
        (["--pruning", "median", "--validate-every", "0"], ["--pruning median with --validate-every 0"]),
        (["--epochs-range", "1", "2"], ["--epochs-range: only for --space paper"]),
        (["--space", "original", "--start-from", "starts"], ["--start-from starts: no start 0"]),
    ],
)
def test_unsuitable_settings_are_refused_before_the_first_trial(
    unstarted_search: ToySearch, printed_text: PrintedText, arguments: list[str], words: list[str]
) -> None:
    assert unstarted_search.search(*arguments) == 2
    error = printed_text()
    assert all(word in error for word in words), error
    assert not unstarted_search.models()


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--objective", "accurracy"], 2, ["unknown objective", "did you mean 'accuracy'?", "soup"]),
        (["--space", "space.yml"], 2, ["space.yml: no such file"]),
        (["--space", "papers"], 2, ["--space papers: no such space", "did you mean 'paper'?"]),
        (["--space", "bad.yaml"], 2, ["bad.yaml, line 2", "did you mean 'epochs'?"]),
        (["--space", "torn.yaml"], 2, ["torn.yaml: not readable YAML", "line 2"]),
        (["--space", "low.yaml"], 2, ["low.yaml, line 1: lr", "low not above high"]),
        (["--storage", "nonsense"], 2, ["--storage nonsense", "postgresql://USER:PASSWORD@HOST/NAME"]),
        (
            ["--storage", "postgresql://me:secret@127.0.0.1:1/x"],
            4,
            ["--storage postgresql://me:***@127.0.0.1:1/x: the database does not respond", "server is running"],
        ),
    ],
)
def test_unsuitable_settings_are_refused_before_the_run_exists(
    unstarted_search: ToySearch, printed_text: PrintedText, arguments: list[str], code: int, words: list[str]
) -> None:
    shutil.rmtree(unstarted_search.folder / "runs")
    for name, text in {
        "bad": "lr: {low: 1, high: 2}\nepoch: {low: 1, high: 2}\n",
        "torn": "lr: {low: 1, high: 2}\nwd: [",
        "low": "lr: {low: 1e-3, high: 1e-4}\n",
    }.items():
        (unstarted_search.folder / f"{name}.yaml").write_text(text, encoding="utf-8")
    assert unstarted_search.search(*arguments) == code
    error = printed_text()
    assert all(word in error for word in words) and "secret" not in error, error
    assert not (unstarted_search.folder / "runs").exists()


def test_a_run_with_other_fine_tunes_is_refused(toy_search_copy: ToySearch, printed_text: PrintedText) -> None:
    (toy_search_copy.run / "study.journal").unlink()
    assert toy_search_copy.search() == 2
    assert "run 'toys' has fine-tunes that are not trials of this search" in printed_text()
