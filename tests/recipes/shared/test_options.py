"""Options of recipes from NAME=VALUE arguments: which recipes get them, and their types."""

import inspect
import json
from typing import Any

import pytest

from soups.core.errors import UsageError
from soups.recipes.registry import RECIPES
from soups.recipes.shared.options import all_options, canonical_request, list_recipes, parse_options, recipe_options


def test_each_option_goes_to_the_recipes_that_have_it() -> None:
    found = parse_options(["ties", "dare", "uniform"], ["density=0.3", "scale=1", "seed=7"])
    assert found == {
        "ties": {"density": 0.3, "scale": 1.0},
        "dare": {"density": 0.3, "scale": 1.0, "seed": 7},
        "uniform": {},
    }
    assert parse_options(["greedy"], []) == {"greedy": {}} and parse_options([], []) == {}


@pytest.mark.parametrize(
    ("recipe", "word", "value"),
    [
        ("ties", "density=1", 1.0),
        ("ties", "density=5e-1", 0.5),
        ("ties", "scale=none", None),
        ("ties", "scales=1,0.5", [1.0, 0.5]),
        ("ties", "scales=2", [2.0]),
        ("task_arithmetic", "scales=None", None),
        ("top_k", "k=3", 3),
        ("dare", "combine=ties", "ties"),
        ("greedy", "accept=significant", "significant"),
    ],
)
def test_values_have_the_type_of_the_signature(recipe: str, word: str, value: Any) -> None:
    found = parse_options([recipe], [word])[recipe][word.split("=")[0]]
    assert found == value and type(found) is type(value)
    assert json.loads(json.dumps(found)) == found  # The card keeps the value.


@pytest.mark.parametrize(
    ("recipes", "words", "message"),
    [
        (["ties", "slerp"], ["k=3"], "k=3: none of the recipes(?s:.*)ties: density, scale, scales; slerp: fraction"),
        (["uniform"], ["k=3"], "uniform: no options"),
        ([], ["k=3"], "none of the recipes(?s:.*)expected: a recipe"),
        (["ties"], ["density"], "--soup-options density: no value"),
        (["ties"], ["on_decision=1"], "none of the recipes"),
        (["ties"], ["density=big"], r"density=big: not a value that ties takes(?s:.*)density=0.2 \(float\)"),
        (["ties"], ["density=0.1,0.2"], "not a value that ties takes"),
        (["top_k"], ["k=2.5"], r"k=none \(int or none\)"),
        (["dare"], ["combine=tie"], r"combine=linear \(linear or ties\)"),
        (["ties"], ["density=0.1", "density=0.2"], "density is given twice"),
        (["tie"], [], "unknown recipe 'tie'(?s:.*)did you mean 'ties'"),
    ],
)
def test_invalid_options_are_errors(recipes: list[str], words: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse_options(recipes, words)


def test_the_list_names_every_recipe_and_option() -> None:
    lines = list_recipes().splitlines()
    assert [line.split()[0] for line in lines if not line.startswith(" ")] == list(RECIPES)
    assert sum(map(len, map(recipe_options, RECIPES))) == len(lines) - len(RECIPES)
    for name in RECIPES:
        own = inspect.signature(RECIPES[name].function).parameters.keys() - {"pool", "judge", "on_decision"}
        assert recipe_options(name).keys() == own


def test_requests_of_older_soups_are_read_in_todays_options() -> None:
    old = {"pool": "p", "accept": "equal", "level": 0.05, "ties": "log_loss"}
    new = {"pool": "p", "accept": "ties-by-log-loss", "level": 0.05}
    assert canonical_request("greedy", old) == new == canonical_request("greedy", new)
    assert canonical_request("greedy", {**old, "ties": "accept"}) == {**new, "accept": "equal"}
    assert canonical_request("pruned", {"ties": "log_loss"}) == {"ties": "log_loss"}
    assert canonical_request("average", {}) == {}


def test_all_options_are_those_given_and_the_defaults_of_the_rest() -> None:
    assert all_options("greedy", {"accept": "better"}) == {"accept": "better", "level": 0.05}
    assert all_options("wise_ft", {})["alphas"] == [step / 10 for step in range(10, -1, -1)]
    assert all_options("uniform", {}) == {}
