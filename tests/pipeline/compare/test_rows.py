"""Soups of a run and the requests that made them. The rows on the toy run are tested in `test_report.py`."""

from pathlib import Path

import pytest
import torch

from soups.checkpoints.card import IngredientCard, SoupCard
from soups.checkpoints.checkpoint import Card, write_checkpoint
from soups.pipeline.compare.rows import find_soups, is_current, request_of_soup
from tests.pipeline.small_run import CARD, make_context, make_run

REQUEST = {"metric": "accuracy", "pool": "abc", "batchnorm": "average", "minutes": 2.0, "accept": "better", "gone": 1}


@pytest.fixture
def card() -> Card:
    part = IngredientCard(name="a", sha256="ab" * 32, coefficient=1.0)
    soup = SoupCard(recipe="greedy", ingredients=(part,), request=REQUEST)
    return CARD.model_copy(update={"kind": "soup", "soup": soup})


def test_the_soups_of_a_run_are_found_by_recipe(tmp_path: Path, card: Card) -> None:
    run = make_run(tmp_path)
    assert find_soups(make_context(run)) == {}
    write_checkpoint(run.soup_path("greedy"), {"w": torch.zeros(3)}, card)
    assert find_soups(make_context(run)) == {"greedy": (run.soup_path("greedy"), card)}


def test_a_request_keeps_limits_and_the_options_that_its_recipe_has(card: Card) -> None:
    request = request_of_soup("greedy", card)
    assert request.recipe == "greedy" and request.options == {"accept": "better"}
    assert (request.batchnorm, request.evaluations, request.minutes) == ("average", None, 2.0)


def test_a_soup_is_current_for_its_own_pool_only(card: Card) -> None:
    assert is_current(card, "abc") and not is_current(card, "abd")
