"""What predicts by default: the recorded choice, what has changed since, and what answers without a choice."""

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from soups.pipeline.score import choice
from soups.pipeline.score.choice import choice_log, default_answer, default_model, read_choice
from soups.pipeline.score.context import RunContext
from tests.pipeline.small_run import make_context, make_run

MODELS = ["p0_epochs2", "p1_epochs2", "p10_epochs2"]


@pytest.fixture
def context(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunContext:
    """A run whose best single model is p1, without a choice."""
    context = make_context(make_run(tmp_path))
    monkeypatch.setattr(choice, "best_single", lambda context: context.run.models / "p1_epochs2.safetensors")
    return context


def record(context: RunContext, model: str, **values: Any) -> None:
    """Record that a model was chosen among the models that there are."""
    run = context.run
    path = run.models / f"{model}.safetensors"
    line = {"answer": model, "model": model, "sha256": run.sha256(path), "vote": None, "split": run.fingerprints[1]}
    line |= {"models": MODELS, "soups": choice.soup_names(run), **values}
    choice_log(run).parent.mkdir(exist_ok=True)
    with choice_log(run).open("a") as stream:
        stream.write(json.dumps(line) + "\n")


def make_soup(context: RunContext, recipe: str) -> Path:
    path = context.run.soup_path(recipe)
    path.write_bytes((context.run.models / "p0_epochs2.safetensors").read_bytes())
    return path


def test_without_a_choice_the_greedy_soup_answers_else_the_best_model(
    context: RunContext, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    assert read_choice(context.run) is None
    assert default_model(context).stem == "p1_epochs2"
    assert "p1_epochs2: the best single model by validation, because no choice is recorded" in caplog.text
    soup = make_soup(context, "greedy")
    assert default_model(context) == soup and default_answer(context).paths == (soup,)
    assert "p_greedy_soup: the greedy soup, because no choice is recorded" in caplog.text
    assert "python main.py --name p --choose" in caplog.text


def test_the_last_choice_of_the_split_answers(context: RunContext, caplog: pytest.LogCaptureFixture) -> None:
    make_soup(context, "greedy")
    record(context, "p0_epochs2")
    record(context, "p10_epochs2")
    record(context, "p0_epochs2", split="another")
    caplog.set_level(logging.INFO)
    answer = default_answer(context)
    assert (answer.name, answer.rule, answer.weights) == ("p10_epochs2", "soft", None)
    assert answer.paths == (context.run.models / "p10_epochs2.safetensors",) and caplog.text == ""


def test_a_pool_that_has_grown_is_said_and_the_choice_stays(
    context: RunContext, caplog: pytest.LogCaptureFixture
) -> None:
    record(context, "p1_epochs2", models=MODELS[:2])
    make_soup(context, "uniform")
    make_soup(context, "learned")
    make_soup(context, "ties")  # Not a candidate.
    assert default_model(context).stem == "p1_epochs2"
    assert "the choice of p1_epochs2 is older than the pool (1 fine-tune more, 2 soups more)" in caplog.text
    assert "python main.py --name p --choose" in caplog.text
    context.run.soup_path("learned").unlink()
    assert choice.changes_since(context.run, {"models": [*MODELS, "x", "y"], "soups": ["p_uniform_soup"]}) == (
        "2 fine-tunes fewer"
    )


def test_a_model_that_changed_answers_with_a_warning_and_a_lost_one_is_replaced(
    context: RunContext, caplog: pytest.LogCaptureFixture
) -> None:
    soup = make_soup(context, "learned")
    record(context, "p_learned_soup")
    soup.write_bytes((context.run.models / "p1_epochs2.safetensors").read_bytes())
    assert default_model(context) == soup
    assert "p_learned_soup has changed since it was chosen" in caplog.text
    soup.unlink()
    assert default_model(context).stem == "p1_epochs2"
    assert "p_learned_soup, which was chosen, is gone" in caplog.text


def test_a_chosen_vote_answers_where_a_vote_can(context: RunContext, caplog: pytest.LogCaptureFixture) -> None:
    paths = [context.run.models / f"{name}.safetensors" for name in MODELS[:2]]
    members = {path.stem: context.run.sha256(path) for path in paths}
    vote = {"name": "ensemble_selection", "members": members, "counts": [3, 1]}
    record(context, "p10_epochs2", answer="ensemble_selection", vote=vote)
    answer = default_answer(context)
    assert (answer.name, answer.rule, answer.paths) == ("ensemble_selection", "weighted", tuple(paths))
    assert answer.weights is not None and np.array_equal(answer.weights, [3, 1])
    assert default_model(context).stem == "p10_epochs2" and caplog.text == ""  # Commands of one model.
    record(context, "p10_epochs2", answer="soft_vote", vote={**vote, "counts": None})
    assert (default_answer(context).rule, default_answer(context).weights) == ("soft", None)
    paths[1].unlink()
    assert default_answer(context).paths == (context.run.models / "p10_epochs2.safetensors",)
    assert "a member of the chosen vote is gone or has changed" in caplog.text
