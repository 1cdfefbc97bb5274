"""Refusals before any work: their words, and whom they name."""

import pytest
import torch

from soups.checkpoints.compatibility import (
    check_duplicates,
    check_layouts,
    find_layout_mismatches,
    find_outliers,
    strip_prefix,
)
from soups.core.errors import DataError
from soups.weights.safetensors_header import layout_of

GOOD = {"a": ((2, 3), "float32"), "b": ((3,), "float32"), "n": ((), "int64")}


@pytest.mark.parametrize(
    ("names", "stripped", "prefix"),
    [
        (["module.a", "module.b.c"], ["a", "b.c"], "module."),
        (["_orig_mod.a", "_orig_mod.module"], ["a", "module"], "_orig_mod."),
        (["_orig_mod.module.a", "_orig_mod.module.b"], ["a", "b"], "_orig_mod.module."),
        (["module._orig_mod.module.a"], ["a"], "module._orig_mod.module."),
        (["module.a", "b"], ["module.a", "b"], ""),
        (["module.module.a", "module.b"], ["module.a", "b"], "module."),
        (["module.a", "_orig_mod.b"], ["module.a", "_orig_mod.b"], ""),
        (["modular.a"], ["modular.a"], ""),
        ([], [], ""),
    ],
)
def test_a_prefix_of_all_names_is_removed(names: list[str], stripped: list[str], prefix: str) -> None:
    state = {name: torch.tensor(number) for number, name in enumerate(names)}
    found, left_out = strip_prefix(state)
    assert (list(found), left_out) == (stripped, prefix)
    assert [tensor.item() for tensor in found.values()] == list(range(len(names)))
    assert list(state) == names


def test_the_reference_is_the_most_common_value_or_the_first_in_a_tie() -> None:
    assert find_outliers({"a": 1, "b": 2, "c": 2, "d": 3}) == ("b", ["a", "d"])
    assert find_outliers({"a": 1, "b": 2}) == ("a", ["b"])
    assert find_outliers({"a": 1}) == ("a", [])


@pytest.mark.parametrize(
    ("change", "message", "sentence"),
    [
        (
            {"a": ((3, 2), "float32")},
            "odd: tensor 'a' does not fit m1\n  expected: (2, 3) float32\n  found:    (3, 2) float32\n  next:",
            "its tensor 'a' does not fit m1: expected (2, 3) float32, found (3, 2) float32",
        ),
        (
            {"b": ((3,), "float16")},
            "odd: tensor 'b' does not fit m1\n  expected: (3,) float32\n  found:    (3,) float16",
            "its tensor 'b' does not fit m1: expected (3,) float32, found (3,) float16",
        ),
        (
            {"n": None},
            "odd: lacks the tensor 'n'\n  expected: () int64\n  next:",
            "it lacks the tensor 'n' that m1 has: () int64",
        ),
        (
            {"extra": ((1,), "bool")},
            "odd: has an extra tensor 'extra'\n  expected: the tensors of m1\n  found:    (1,) bool",
            "it has an extra tensor 'extra' that m1 lacks: (1,) bool",
        ),
    ],
)
def test_the_model_that_differs_is_named(change: dict, message: str, sentence: str) -> None:
    odd = {key: entry for key, entry in (GOOD | change).items() if entry is not None}
    layouts = {"odd": odd, "m1": dict(GOOD), "m2": dict(GOOD)}
    assert find_layout_mismatches(layouts) == {"odd": sentence}
    with pytest.raises(DataError) as caught:
        check_layouts(layouts)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(("number", "words"), [(2, ", and 1 other does not fit either"), (4, ", and 3 others do not")])
def test_further_models_that_differ_are_counted(number: int, words: str) -> None:
    layouts = {f"good{index}": dict(GOOD) for index in range(5)}
    layouts |= {f"odd{index}": GOOD | {"b": ((index + 9,), "float32")} for index in range(number)}
    assert list(find_layout_mismatches(layouts)) == [f"odd{index}" for index in range(number)]
    with pytest.raises(DataError, match=rf"^odd0: tensor 'b' does not fit good0{words}"):
        check_layouts(layouts)


def test_layouts_in_another_order_are_equal() -> None:
    layouts = {"one": dict(GOOD), "two": dict(reversed(GOOD.items()))}
    assert find_layout_mismatches(layouts) == {} and find_layout_mismatches({}) == {}
    check_layouts(layouts)
    check_layouts({})


def test_layouts_of_states() -> None:
    state = {"w": torch.zeros(2, 3, dtype=torch.bfloat16), "n": torch.tensor(1)}
    assert layout_of(state) == {"w": ((2, 3), "bfloat16"), "n": ((), "int64")}


def test_one_file_under_two_names_is_rejected() -> None:
    check_duplicates({"a": "1", "b": "2"})
    with pytest.raises(DataError, match=r"^b and d are the same model twice\n  expected: each model once\n.*SHA-256 2"):
        check_duplicates({"a": "1", "b": "2", "c": "3", "d": "2"})
