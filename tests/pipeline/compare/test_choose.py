"""The choice on the toy run against its own log of cross-fitted answers, and the words that describe it."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import inference
import main
from soups.core.errors import UsageError
from soups.core.metrics import METRICS, Metric
from soups.pipeline.compare.choose import describe, make_choice
from soups.pipeline.run.run import Run
from soups.pipeline.score.context import open_context
from soups.pipeline.settings.commands import MainSettings
from tests.pipeline.small_run import make_run

ToyRun = Any

LINE = {
    "answer": "p_learned_soup",
    "chosen": "learned_soup",
    "rival": "learned_soup",
    "losses": {"best_single": 0.22, "learned_soup": 0.18, "uniform_soup": 0.25},
    "measure": "log_loss",
    "votes_allowed": False,
    "folds": 5,
    "groups": 40,
    "images": 300,
    "p": 0.021,
}


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return make_run(tmp_path)


def sentence(run: Run, **values: Any) -> str:
    return describe({**LINE, **values}, run).splitlines()[-1]


def test_the_last_line_says_what_to_use_and_how(run: Run) -> None:
    command = "; python inference.py --name p"
    measured = "cross-fitted log-loss 0.180, best single model 0.220"
    assert sentence(run) == f"Use p_learned_soup: {measured} (max-T p = 0.021){command}"
    assert sentence(run, p=None) == f"Use p_learned_soup: {measured}{command}"
    losses = {"best_single": 0.22, "learned_soup": 0.23}
    single = {"answer": "p1_epochs2", "chosen": "best_single", "losses": losses}
    assert sentence(run, **single) == f"Use p1_epochs2: no soup is better{command}"
    assert sentence(run, **single, votes_allowed=True) == f"Use p1_epochs2: no soup or vote is better{command}"
    slightly = sentence(run, **{**single, "losses": LINE["losses"]})
    by_luck = "by more than a standard error (learned_soup 0.180, best single model 0.220)"
    assert slightly == f"Use p1_epochs2: no soup is better {by_luck}{command}"
    alone = sentence(run, **{**single, "losses": {"best_single": 0.2}})
    assert alone == f"Use p1_epochs2: no soup was tried (python main.py --name p --choose){command}"
    losses = {"best_single": 0.07, "learned_soup": 0.0625}
    text = "cross-fitted accuracy 93.8%, best single model 93.0% (max-T p = 0.021)"
    assert sentence(run, measure="accuracy", losses=losses) == f"Use p_learned_soup: {text}{command}"


def test_the_text_says_what_cross_fitting_cannot_promise(run: Run) -> None:
    lines = describe(LINE, run).splitlines()
    scores = "learned_soup 0.180, best_single 0.220, uniform_soup 0.250"
    assert lines[0] == f"cross-fitted log-loss (5 folds, 300 validation images, 40 groups): {scores}"
    assert "early stopping" in lines[1] and "have seen all validation images" in lines[1]
    assert len(lines) == 3
    assert "Too few groups to be sure: 5." in describe({**LINE, "groups": 5}, run)


@pytest.mark.parametrize("votes", [False, True])
def test_candidates_are_made_scored_and_recorded(
    toy_run_copy: ToyRun, capsys: pytest.CaptureFixture[str], votes: bool
) -> None:
    models = toy_run_copy.run / "models"
    uniform = (models / "toys_uniform_soup.safetensors").read_bytes()
    (toy_run_copy.run / "logs" / "choice.jsonl").unlink()
    assert main.main(["--choose", *["--allow-votes"] * votes]) == 0
    said = capsys.readouterr()
    assert "--choose makes the greedy_log_loss soup" in said.err and "makes the uniform soup" not in said.err
    assert "Too few groups to be sure: 2." in said.out
    assert (models / "toys_greedy_log_loss_soup.safetensors").exists()
    assert (models / "toys_uniform_soup.safetensors").read_bytes() == uniform
    (line,) = toy_run_copy.log("choice.jsonl")
    names = ["best_single", "greedy_soup", "greedy_log_loss_soup", "uniform_soup"]
    assert set(line["losses"]) == {*names, *["soft_vote", "ensemble_selection"] * votes}
    scores = toy_run_copy.log("crossfit.jsonl")[-1]["scores"]
    assert line["losses"] == pytest.approx({name: scores[name]["log_loss"] for name in line["losses"]})
    others = {name: loss for name, loss in line["losses"].items() if name != "best_single"}
    rival = line["rival"]
    assert others[rival] == min(others.values()) and line["chosen"] in (rival, "best_single")
    excess = others[rival] - line["losses"]["best_single"]
    if line["standard_error"] > 0:
        assert (line["chosen"] == rival) == (excess < line["standard_errors"] * line["standard_error"])
    assert said.out.strip().splitlines()[-1].startswith(f"Use {line['answer']}: ")
    context = open_context(MainSettings(), frozenset())
    assert line["sha256"] == context.run.sha256(models / f"{line['model']}.safetensors")
    assert line["candidates"]["uniform_soup"] == context.run.sha256(models / "toys_uniform_soup.safetensors")
    assert main.main(["--choose", *["--allow-votes"] * votes]) == 0
    assert len(toy_run_copy.log("choice.jsonl")) == 1 and "cross-fitting" not in capsys.readouterr().err


def test_bare_inference_takes_the_choice_and_computes_nothing(
    toy_run_copy: ToyRun, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.main(["--choose", "--report"]) == 0
    text = capsys.readouterr().out
    assert text.count("Use toys") == 1 and text.strip().splitlines()[-1].startswith("Use toys")
    (*_, line) = toy_run_copy.log("choice.jsonl")
    before = toy_run_copy.contents()
    assert inference.main([]) == 0
    said = "".join(capsys.readouterr())
    assert f"output/{line['answer']}.csv" in said and "scoring" not in said and "cross-fitting" not in said
    changed = {path for path, content in toy_run_copy.contents().items() if before.get(path) != content}
    assert all("output" in str(path) or str(path).endswith("logs/answers.jsonl") for path in changed)


def test_a_report_makes_the_choice_where_there_is_none_of_these_models(
    toy_run_copy: ToyRun, capsys: pytest.CaptureFixture[str]
) -> None:
    log = toy_run_copy.run / "logs" / "choice.jsonl"
    assert len(toy_run_copy.log("choice.jsonl")) == 1  # By the report that made the toy run.
    log.unlink()
    assert main.main(["--report"]) == 0
    assert "it is made again" not in capsys.readouterr().err and len(toy_run_copy.log("choice.jsonl")) == 1
    assert main.main(["--report"]) == 0
    assert len(toy_run_copy.log("choice.jsonl")) == 1
    capsys.readouterr()
    assert main.main(["--soup", "greedy_log_loss", "--report"]) == 0
    assert "differ from those of the recorded choice: it is made again" in capsys.readouterr().err
    assert "greedy_log_loss_soup" in toy_run_copy.log("choice.jsonl")[-1]["losses"]


def test_by_another_metric_the_soups_stay(toy_run_copy: ToyRun) -> None:
    models = toy_run_copy.run / "models"
    before = (models / "toys_greedy_soup.safetensors").read_bytes()
    assert main.main(["--choose", "--metric", "macro_f1"]) == 0
    line = toy_run_copy.log("choice.jsonl")[-1]
    assert (line["measure"], line["metric"]) == ("macro_f1", "accuracy")
    assert (models / "toys_greedy_soup.safetensors").read_bytes() == before


def test_mistakes(toy_run_copy: ToyRun, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert main.main(["--report", "--allow-votes"]) == 2
    assert "--allow-votes without --choose" in capsys.readouterr().err
    monkeypatch.setitem(METRICS, "mine", Metric("mine", lambda table, labels: 0.0, True))
    with pytest.raises(UsageError, match="--choose by mine"):
        make_choice(open_context(MainSettings(), frozenset()), "mine", votes=False)
    table = pd.read_csv(toy_run_copy.run / "samples.csv", dtype=str, keep_default_na=False)
    table["split"] = np.where(table["split"] == "val", "train", table["split"])
    table.to_csv(toy_run_copy.run / "samples.csv", index=False)
    assert main.main(["--choose"]) == 3
    assert "no validation images to choose by" in capsys.readouterr().err
