"""The search on toys: trials are ingredients, going on gives the same, what is dropped cannot help."""

import csv
import importlib.util
import logging
import shutil
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

import main
from soups.checkpoints import read_card
from soups.errors import Diverged, UsageError
from soups.pipeline import search as searching
from soups.pipeline import search_results
from soups.pipeline.appraisal import drop_surplus
from soups.training.sampling import PRUNERS

ErrorOf = Callable[[], str]
SCRIPT = Path(__file__).parents[2] / "scripts" / "search.py"
SPACE = """\
lr: {low: 1e-4, high: 1e-2, log: true}
epochs: {low: 1, high: 2}
optimizer: {choices: [adamw, sgd]}
mix: {low: 0, high: 0.5, otherwise: 0}
"""


class Bench:
    """A folder to work in, and the script."""

    def __init__(self, folder: Path, data: Path, clip: Path) -> None:
        spec = importlib.util.spec_from_file_location("search", SCRIPT)
        assert spec is not None and spec.loader is not None
        self.script: ModuleType = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(self.script)
        self.folder, self.run, self.data = folder, folder / "runs" / "toys", data
        self.flags = [
            *("--name", "toys", "--data-location", str(data), "--group-pattern", r"(p\d+)_", "--val-ratio", "0.5"),
            *("--model", f"local-dir:{clip}", "--precision", "fp32", "--threads", "1", "--batch-size", "8"),
        ]
        (folder / "space.yaml").write_text(SPACE, encoding="utf-8")

    def search(self, *arguments: str) -> int:
        """The exit code of a search of three trials by log-loss, which tells toys apart that guess."""
        usual = {"--trials": "3", "--space": "space.yaml", "--metric": "log_loss"}
        rest = [part for flag, value in usual.items() if flag not in arguments for part in (flag, value)]
        code: int = self.script.main([*self.flags, *rest, *arguments])
        return code

    def models(self) -> dict[str, bytes]:
        return {path.stem: path.read_bytes() for path in sorted(self.run.glob("models/*_epochs*"))}

    def rows(self) -> list[dict[str, str]]:
        with (self.run / "output" / "search.csv").open(encoding="utf-8") as stream:
            return list(csv.DictReader(stream))

    def forget(self) -> None:
        """Take everything back but the run itself."""
        for path in [*self.run.glob("models/*_epochs*"), *self.run.glob("study.journal")]:
            path.unlink()
        for name in ("logs", "output", "figures"):
            shutil.rmtree(self.run / name, ignore_errors=True)


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory, toy_data: Path, tiny_clip: Path) -> Iterator[Bench]:
    """A search of three trials by log-loss."""
    folder = tmp_path_factory.mktemp("searched")
    bench = Bench(folder, toy_data, tiny_clip)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("SOUPS_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
        assert bench.search() == 0
        yield bench


@pytest.fixture
def bench(searched: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """A copy that a test may change."""
    shutil.copytree(searched.folder, tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    flags, copy = searched.flags, Bench(tmp_path / "copy", searched.data, Path())
    copy.flags = flags
    return copy


@pytest.fixture
def fresh(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """The run as it is before the first trial; no figures, which take longer than the toys."""
    bench.forget()
    monkeypatch.setattr(search_results, "draw_figures", lambda *arguments: [])
    return bench


def test_trials_are_ingredients(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    rows = bench.rows()
    assert [(row["trial"], row["state"], row["kept"]) for row in rows] == [
        (str(n), "complete", "True") for n in range(3)
    ]
    for row in rows:
        card = read_card(bench.run / "models" / f"{row['model']}.safetensors")
        assert card is not None and card.training["index"] == int(row["trial"])
        assert card.training["lr"] == float(row["lr"]) and card.training["optimizer"] == row["optimizer"]
        assert card.training["mix"] == (float(row["mix"]) if row["mix_used"] == "True" else 0)
        assert card.scores["val"]["log_loss"] == float(row["log_loss"]) and card.training["batch_size"] == 8
        lines = (bench.run / "logs" / "training" / f"toys{row['trial']}.jsonl").read_text().splitlines()
        assert len(lines) == card.training["epochs"]
    before = {path: path.read_bytes() for path in bench.folder.rglob("*") if path.is_file()}
    assert bench.search() == 0
    text = capsys.readouterr().out
    best = min(rows, key=lambda row: float(row["log_loss"]))
    assert text.startswith("search toys: 3 complete\n") and text.splitlines()[3].split()[0] == best["trial"]
    changed = [path.name for path, content in before.items() if path.read_bytes() != content]
    assert not changed
    assert main.main(["--greedy-soup", "--name", "toys"]) == 0
    soup = read_card(bench.run / "models" / "toys_greedy_soup.safetensors")
    assert soup is not None and soup.soup is not None and soup.soup.ingredients[0].name in bench.models()


def test_figures_need_no_network(searched: Bench) -> None:
    folder = searched.run / "figures" / "search"
    names = ["contour", "history", "importances", "parallel_coordinates", "slice"]
    assert sorted(path.stem for path in folder.glob("*.png")) == names
    page = (folder / "search.html").read_text(encoding="utf-8")
    assert all(f'id="{name}"' in page for name in names) and '<script src="http' not in page
    assert len(page) > 1_000_000  # Plotly itself is in it.


@pytest.mark.parametrize("moment", ["training", "telling"])
def test_going_on_after_an_interruption_gives_the_same(
    searched: Bench, fresh: Bench, moment: str, monkeypatch: pytest.MonkeyPatch, error_of: ErrorOf
) -> None:
    with monkeypatch.context() as patch:
        train_one = searching.train_one

        def interrupted(task: Any, watch: Any) -> Path:
            def stop(line: dict[str, Any]) -> None:
                raise KeyboardInterrupt

            path = train_one(task, stop if moment == "training" and task.index == 1 else watch)
            if moment == "telling" and task.index == 1:
                raise KeyboardInterrupt
            return path

        patch.setattr(searching, "train_one", interrupted)
        assert fresh.search() == 130
        assert len(fresh.models()) == (1 if moment == "training" else 2)
    # Flags that are left out are as recorded.
    assert fresh.script.main(["--name", "toys", "--trials", "3"]) == 0
    assert "trial 1: its process ended before it was finished" in error_of()
    assert fresh.models() == searched.models() and fresh.rows() == searched.rows()


def test_several_processes(searched: Bench, fresh: Bench) -> None:
    assert fresh.search("--jobs", "2", "--search-sampler", "random") == 0
    # The first ten trials of the estimator are random too, whoever comes first.
    assert fresh.models() == searched.models()


def test_the_gain_of_the_soup(fresh: Bench) -> None:
    assert fresh.search("--objective", "soup") == 0
    rows, losses = fresh.rows(), []
    for count in (1, 2, 3):  # The same by way of the soups themselves.
        names = [row["model"] for row in rows[:count]]
        flags = ["--name", "toys", "--greedy-soup", "--soup-name", f"of{count}", "--ingredients", *names]
        assert main.main(flags) == 0
        card = read_card(fresh.run / "models" / f"of{count}.safetensors")
        assert card is not None
        losses.append(card.scores["val"]["log_loss"])
    gains = [0.0, *(before - after for before, after in pairwise(losses))]
    assert [float(row["soup"]) for row in rows] == pytest.approx(gains, abs=1e-12)


def test_what_is_kept(fresh: Bench) -> None:
    assert fresh.search("--keep", "1", "--objective", "accuracy") == 0
    kept = {row["model"] for row in fresh.rows() if row["kept"] == "True"}
    assert kept == set(fresh.models())
    assert fresh.search("--keep", "1", "--objective", "accuracy") == 0  # The trials that are gone are not repeated.
    assert kept == set(fresh.models())
    assert main.main(["--greedy-soup", "--name", "toys"]) == 0
    card = read_card(fresh.run / "models" / "toys_greedy_soup.safetensors")
    assert card is not None and card.soup is not None
    assert {part.name for part in card.soup.ingredients} == kept


def test_what_is_dropped(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    files = [tmp_path / f"toys{number}_epochs1.safetensors" for number in range(5)]
    for file in files:
        file.touch()
    bench = SimpleNamespace(run=SimpleNamespace(models=tmp_path / "without_soups"))
    appraiser = SimpleNamespace(bench=bench, ingredients=lambda paths: frozenset({"toys3_epochs1"}))
    assert drop_surplus(appraiser, files, 5) == []  # type: ignore[arg-type]
    assert drop_surplus(appraiser, files, 3) == [files[2], files[4]]  # type: ignore[arg-type]
    assert drop_surplus(appraiser, [*files[:2], files[3]], 1) == files[:2]  # type: ignore[arg-type]
    assert [file.name for file in files if file.exists()] == ["toys3_epochs1.safetensors"]
    assert "toys4_epochs1.safetensors: dropped; neither among the best 3 nor in the greedy soup" in caplog.text


def test_trials_that_are_given_up_or_fail(fresh: Bench, monkeypatch: pytest.MonkeyPatch, error_of: ErrorOf) -> None:
    class Third:
        def prune(self, study: Any, trial: Any) -> bool:
            return trial.number == 3 and bool(trial.intermediate_values)

    train_one = searching.train_one

    def train(task: Any, watch: Any) -> Path:
        if task.index == 1:
            raise Diverged("the loss became nan in epoch 1, step 2")
        if task.index == 2:
            raise UsageError("such a model cannot be")
        return train_one(task, watch)

    monkeypatch.setattr(searching, "train_one", train)
    monkeypatch.setitem(PRUNERS, "median", lambda most_epochs: Third())
    (fresh.folder / "space.yaml").write_text("lr: {low: 1e-4, high: 1e-2, log: true}\n", encoding="utf-8")
    assert fresh.search("--trials", "4", "--epochs", "2", "--pruning", "median") == 5
    told = error_of()
    assert "1 of 4 trials failed; the others are kept trial 2: such a model cannot be" in told
    assert "search toys: 1 complete, 2 pruned, 1 failed" in told
    assert [row["state"] for row in fresh.rows()] == ["complete", "pruned", "failed", "pruned"]
    assert fresh.rows()[1]["note"] == "the loss became nan in epoch 1, step 2" and fresh.rows()[3]["epochs_done"] == "1"
    assert set(fresh.models()) == {"toys0_epochs2"}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--search-sampler", "qmc"], ["--search-sampler: the search was begun with", "tpe", "qmc", "another --name"]),
        (["--pruning", "median"], ["--pruning", "none", "median"]),
        (["--objective", "accuracy"], ["--objective", "log_loss", "accuracy"]),
        (["--batch-size", "4"], ["--batch-size", "expected: 8", "found: 4"]),
        (["--space", "other.yaml"], ["--space: lr", '"high": 0.01', '"high": 0.02']),
        (["--space", "original"], ["--space: lr"]),
        (["--lr", "1e-3"], ["--lr", "expected: 2e-05", "found: 0.001"]),
    ],
)
def test_a_search_goes_on_as_it_was_begun(
    searched: Bench, monkeypatch: pytest.MonkeyPatch, error_of: ErrorOf, arguments: list[str], words: list[str]
) -> None:
    (searched.folder / "other.yaml").write_text(SPACE.replace("1e-2", "2e-2"), encoding="utf-8")
    assert searched.script.main(["--name", "toys", *arguments]) == 2
    error = error_of()
    assert all(word in error for word in words), error


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--objective", "accurracy"], ["unknown objective", "did you mean 'accuracy'?", "soup"]),
        (["--hparams", "random"], ["--hparams", "--space paper"]),
        (["--pruning", "median", "--validate-every", "0"], ["--pruning median with --validate-every 0"]),
        (["--space", "space.yml"], ["space.yml: no such file"]),
        (["--epochs-range", "1", "2"], ["--epochs-range: a range of --space paper"]),
        (["--space", "original", "--start-from", "starts"], ["--start-from starts: no start 0"]),
        (["--space", "bad.yaml"], ["bad.yaml, line 2", "did you mean 'epochs'?"]),
    ],
)
def test_mistakes_before_the_first_trial(
    fresh: Bench, error_of: ErrorOf, arguments: list[str], words: list[str]
) -> None:
    (fresh.folder / "bad.yaml").write_text("lr: {low: 1, high: 2}\nepoch: {low: 1, high: 2}\n", encoding="utf-8")
    assert fresh.search(*arguments) == 2
    error = error_of()
    assert all(word in error for word in words), error
    assert not fresh.models()


def test_a_run_of_other_fine_tunes(bench: Bench, error_of: ErrorOf) -> None:
    (bench.run / "study.journal").unlink()
    assert bench.search() == 2
    assert "run 'toys' has fine-tunes that are no trials of this search" in error_of()
