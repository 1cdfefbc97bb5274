"""The pool of a run: ingredients with and without scores, and the models that do not fit each other."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from soups.checkpoints.checkpoint import read_state, write_checkpoint
from soups.core.errors import DataError
from soups.files.jsonl import append_record
from soups.pipeline.score.context import RunContext
from soups.pipeline.score.evaluate import result_line
from soups.pipeline.soup.pool import check_pool, pool_key, pool_of
from tests.pipeline.small_run import CARD, make_context, make_run

NAMES = ["p0_epochs2", "p1_epochs2", "p10_epochs2"]


@pytest.fixture
def context(tmp_path: Path) -> RunContext:
    return make_context(make_run(tmp_path))


def test_unscored_ingredients_have_no_score_and_no_start(context: RunContext) -> None:
    pool, card = pool_of(context, scored=False)
    assert [part.name for part in pool.ingredients] == NAMES and pool.start is None
    assert card.training == {"index": 0, "epochs": 2}
    assert all(part.score != part.score and part.known_verdict is None for part in pool.ingredients)
    assert [part.load()["w"][0].item() for part in pool.ingredients] == [1, 2, 11]


@pytest.mark.parametrize(("metric", "scores"), [("accuracy", [0.5, 0.5, 0.75]), ("log_loss", [-1.0, -2.0, -3.0])])
def test_scored_ingredients_have_the_logged_score_and_the_start(
    context: RunContext, metric: str, scores: list[float]
) -> None:
    run = context.run
    context = replace(context, evaluation=context.evaluation.model_copy(update={"metric": metric}))
    for name, accuracy, loss in zip([*NAMES, "p_start"], [0.5, 0.5, 0.75, 0.1], [1.0, 2.0, 3.0, 9.0], strict=True):
        values = {"val": {"accuracy": accuracy, "log_loss": loss}}
        digest = run.sha256(run.models / f"{name}.safetensors")
        append_record(run.individual_results, result_line(context, name, values, sha256=digest))
    pool, _ = pool_of(context)
    assert [part.score for part in pool.ingredients] == scores
    assert [part.log_loss for part in pool.ingredients] == [1.0, 2.0, 3.0]
    assert pool.start is not None and pool.start.name == "p_start" and pool.start_problem == ""


def test_a_model_that_changes_after_it_was_scored_is_refused(context: RunContext) -> None:
    pool, _ = pool_of(context, scored=False)
    path = context.run.models / "p1_epochs2.safetensors"
    write_checkpoint(path, {"w": torch.ones(3)}, CARD)
    with pytest.raises(DataError, match="p1_epochs2"):
        pool.ingredients[1].load()


def test_a_model_that_is_not_finite_is_named(context: RunContext) -> None:
    path = context.run.models / "p1_epochs2.safetensors"
    card = context.run.card_of(path)
    state = {key: tensor.clone().fill_(float("nan")) for key, tensor in read_state(path).items()}
    write_checkpoint(path, state, card)
    with pytest.raises(DataError, match="p1_epochs2"):
        check_pool(context)


def test_the_key_of_a_pool_does_not_depend_on_the_order() -> None:
    assert pool_key(["a", "b"]) == pool_key(["b", "a"]) != pool_key(["a", "c"])
