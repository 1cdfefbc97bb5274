"""Averages of state dicts against Python's exact fractions."""

import itertools
import math
from copy import deepcopy
from fractions import Fraction

import pytest
import torch

from soups.core.errors import DataError, UsageError
from soups.weights.safetensors_header import layout_of
from soups.weights.state_dict import (
    INTEGER_RULE,
    WeightedSum,
    average_states,
    check_compatible,
    check_finite,
    first_not_finite,
    integer_rule,
    tied_groups,
)


def random_state(seed: int, dtype: torch.dtype = torch.float32) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        "weight": torch.randn(3, 4, generator=generator).to(dtype),
        "scale": torch.randn((), generator=generator).to(dtype),
        "counter": torch.tensor(seed),
        "mask": torch.tensor([True, False]),
    }


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("number", [1, 2, 3, 7])
def test_mean_is_the_exact_mean_rounded_once(dtype: torch.dtype, number: int) -> None:
    states = [random_state(seed, dtype) for seed in range(number)]
    mean = average_states((str(index), state) for index, state in enumerate(states))
    for index in range(12):
        exact = sum(Fraction(state["weight"].flatten()[index].item()) for state in states) / number
        expected = torch.tensor(float(exact), dtype=torch.float64).to(dtype)
        assert mean["weight"].flatten()[index].item() == pytest.approx(expected.item(), rel=1e-15, abs=1e-15)
    assert {key: value.dtype for key, value in mean.items()} == {key: v.dtype for key, v in states[0].items()}


def test_low_precision_ingredients_are_not_summed_in_low_precision() -> None:
    big, small = torch.tensor([256.0], dtype=torch.bfloat16), torch.tensor([1.0], dtype=torch.bfloat16)
    states = [("big", {"w": big})] + [(f"small{index}", {"w": small}) for index in range(63)]
    assert average_states(states)["w"].item() == 5.0  # (256 + 63) / 64 = 4.98; added in bfloat16 it would be 4.


def test_every_order_gives_the_same_bits() -> None:
    states = [(str(seed), random_state(seed)) for seed in range(5)]
    reference = average_states(states)
    for order in itertools.permutations(states):
        assert torch.equal(average_states(order)["weight"], reference["weight"])


def test_integers_are_those_of_the_first_state() -> None:
    mean = average_states([("a", random_state(7)), ("b", random_state(9))])
    assert mean["counter"].item() == 7 and mean["mask"].tolist() == [True, False]


def test_weights_are_divided_by_their_sum() -> None:
    states = [("a", {"w": torch.tensor([1.0])}), ("b", {"w": torch.tensor([5.0])})]
    assert average_states(states, weights=[3, 1])["w"].item() == 2.0
    assert average_states(states, weights=[0.5, 0.5])["w"].item() == 3.0


@pytest.mark.parametrize("mapped", [False, True])
@pytest.mark.parametrize(
    ("weights", "words"),
    [
        (
            [1.0],
            "the numbers of weights and models differ\n  expected: one weight for each model\n  found:    1 weights",
        ),
        ([1.0, 1.0, 1.0], "the numbers of weights and models differ(?s:.*)found:    3 weights"),
        ([1.0, -1.0], "sum to zero"),
    ],
)
def test_weights_that_do_not_fit_are_rejected(weights: list[float], words: str, mapped: bool) -> None:
    states = [("a", {"w": torch.tensor([1.0])}), ("b", {"w": torch.tensor([5.0])})]
    with pytest.raises(UsageError, match=words):
        average_states(states, weights, mapped=mapped)


def test_ingredients_are_not_changed() -> None:
    states = [random_state(seed, torch.float64) for seed in range(3)]
    copies = [{key: value.clone() for key, value in state.items()} for state in states]
    total = WeightedSum()
    for state in states:
        total.mean_with(state)
        total.add(state)
    mean = total.mean()
    mean["weight"].zero_()
    mean["counter"].zero_()
    for state, copy in zip(states, copies, strict=True):
        assert all(torch.equal(state[key], copy[key]) for key in state)
    assert total.mean()["counter"].item() == 0 and total.mean()["weight"].abs().sum() > 0


def test_mean_with_is_add_then_mean_and_changes_nothing() -> None:
    total = WeightedSum()
    for seed in range(6):
        state, before = random_state(seed), deepcopy(total)
        candidate = total.mean_with(state, weight=0.5 + seed)
        assert total.weight == before.weight
        assert all(torch.equal(total.total[key], before.total[key]) for key in before.total)
        total.add(state, weight=0.5 + seed)
        assert all(torch.equal(candidate[key], value) for key, value in total.mean().items())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            {"weight": torch.zeros(4, 3)},
            r"odd: tensor 'weight' does not fit first\n  expected: \(3, 4\) float32\n  found:    \(4, 3\) float32\n",
        ),
        ({"weight": torch.zeros(3, 4).half()}, r"odd: tensor 'weight'(?s:.*)float32(?s:.*)float16"),
        ({"counter": torch.tensor(1.0)}, r"odd: tensor 'counter'(?s:.*)int64(?s:.*)float32"),
        ({"extra": torch.zeros(1)}, "odd: has an extra tensor 'extra'"),
        ({"scale": None}, "odd: lacks the tensor 'scale'"),
        ({"scale": torch.tensor(float("nan"))}, r"odd: tensor 'scale' holds NaN(?s:.*)diverged"),
    ],
)
def test_tensors_that_differ_are_named(change: dict, words: str) -> None:
    odd = {key: value for key, value in (random_state(1) | change).items() if value is not None}
    with pytest.raises(DataError, match=words):
        average_states([("first", random_state(0)), ("odd", odd)])
    total = WeightedSum()
    total.add(random_state(0), name="first")
    with pytest.raises(DataError, match=words):
        total.mean_with(odd, name="odd")


def test_the_first_difference_by_name_is_reported() -> None:
    reference, state = {"a": torch.zeros(1), "b": torch.zeros(1)}, {"c": torch.zeros(1), "d": torch.zeros(1)}
    with pytest.raises(DataError, match="m: lacks the tensor 'a'"):
        check_compatible(reference, state, "reference", "m")


def test_no_ingredients() -> None:
    with pytest.raises(DataError, match="no ingredients"):
        average_states([])


@pytest.mark.parametrize("weighted", [False, True])
def test_mapped_states_give_the_bits_of_streamed_states(weighted: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("soups.weights.chunked_mean._CHUNK", 7)  # Chunks end within, at and beyond the end of a tensor.
    generator = torch.Generator().manual_seed(0)
    shapes = {"a": (3, 5), "b": (7,), "c": (), "d": (0, 4), "e": (2, 7)}
    for dtype in (torch.float32, torch.float16, torch.bfloat16, torch.float64):
        states = [
            (
                f"m{number}",
                {key: torch.randn(shape, generator=generator).to(dtype) for key, shape in shapes.items()}
                | {"steps": torch.tensor(number), "turned": torch.randn(4, 3, generator=generator).to(dtype).T},
            )
            for number in range(5)
        ]
        weights = [0.3, 2.0, 0.0, 1.0, 0.7] if weighted else None
        one_by_one, mapped = average_states(states, weights), average_states(states, weights, mapped=True)
        assert one_by_one.keys() == mapped.keys()
        for key, tensor in one_by_one.items():
            assert tensor.dtype == mapped[key].dtype
            assert torch.equal(tensor, mapped[key])


def test_mapped_states_that_cannot_be_averaged_are_rejected() -> None:
    good = {"w": torch.ones(3)}
    with pytest.raises(DataError, match="a soup of no ingredients"):
        average_states([], mapped=True)
    with pytest.raises(DataError, match="m1: tensor 'w' does not fit m0"):
        average_states([("m0", good), ("m1", {"w": torch.ones(4)})], mapped=True)
    with pytest.raises(DataError, match="m1: tensor 'w' holds NaN"):
        average_states([("m0", good), ("m1", {"w": torch.tensor([0.0, float("nan"), 0.0])})], mapped=True)
    with pytest.raises(UsageError, match="the numbers of weights and models differ"):
        average_states([("m0", good)], [1.0, 2.0], mapped=True)
    with pytest.raises(UsageError, match="sum to zero"):
        average_states([("m0", good), ("m1", good)], [1.0, -1.0], mapped=True)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.float8_e5m2])
@pytest.mark.parametrize(("value", "word"), [(math.nan, "NaN"), (math.inf, "infinity"), (-math.inf, "infinity")])
def test_tensors_that_are_not_finite_are_named(dtype: torch.dtype, value: float, word: str) -> None:
    good = {"n": torch.tensor(5), "a": torch.ones(9).to(dtype), "b": torch.ones(3, 4).to(dtype), "e": torch.ones(0)}
    assert first_not_finite(good) is None
    check_finite(good, "m")
    wrong = good | {
        "b": torch.ones(4, 3).index_put((torch.tensor(2), torch.tensor(1)), torch.tensor(value)).T.to(dtype)
    }
    assert first_not_finite(wrong | {"c": wrong["b"]}) == "b"
    with pytest.raises(DataError, match=rf"m: tensor 'b' holds {word}\n  expected: finite numbers\n.*diverged"):
        check_finite(wrong, "m")
    for mapped in False, True:
        with pytest.raises(DataError, match=rf"wrong: tensor 'b' holds {word}"):
            average_states([("good", good), ("wrong", wrong), ("good too", good)], mapped=mapped)


def test_infinities_that_cancel_or_have_weight_zero_are_found() -> None:
    states = [("plus", {"w": torch.tensor([math.inf])}), ("minus", {"w": torch.tensor([-math.inf])})]
    for mapped in False, True:
        with pytest.raises(DataError, match="plus: tensor 'w' holds infinity"):
            average_states(states, mapped=mapped)
        with pytest.raises(DataError, match="minus: tensor 'w' holds infinity"):
            average_states([("good", {"w": torch.ones(1)}), states[1]], [1.0, 0.0], mapped=mapped)


def test_largest_numbers_are_averaged_and_an_overflow_has_its_own_message() -> None:
    for dtype in torch.float16, torch.bfloat16, torch.float32:
        largest = torch.full((5,), torch.finfo(dtype).max, dtype=dtype)
        states = [("a", {"w": largest}), ("b", {"w": largest}), ("c", {"w": -largest})]
        for mapped in False, True:
            assert torch.equal(average_states(states[:2], mapped=mapped)["w"], largest)
            with pytest.raises(DataError, match=rf"the average of tensor 'w' is too large for {dtype}(?s:.*)weights"):
                average_states(states[1:], [2.0, -1.0], mapped=mapped)


def tied_state(seed: int, *groups: str) -> dict[str, torch.Tensor]:
    """Tensors `a` to `d`, those named together in a group being one."""
    generator = torch.Generator().manual_seed(seed)
    one_for = {name: torch.randn(5, generator=generator) for name in ("ab", "abc", "cd", "a", "b", "c", "d")}
    return {key: one_for[next((group for group in groups if key in group), key)] for key in "abcd"} | {
        "count": torch.tensor(seed)
    }


@pytest.mark.parametrize(
    ("groups", "together"),
    [
        ([["ab"], ["ab"], ["ab"]], [["a", "b"]]),
        ([["ab", "cd"], ["abc"], ["ab"]], [["a", "b"]]),
        ([["abc"], ["abc"], ["ab", "cd"]], [["a", "b"]]),
        ([["abc"], ["abc"], ["abc"]], [["a", "b", "c"]]),
        ([["ab"], ["ab"], []], []),
        ([[], ["ab"], ["ab"]], []),
    ],
)
def test_tensors_tied_in_all_states_stay_tied(groups: list[list[str]], together: list[list[str]]) -> None:
    states = [(f"m{seed}", tied_state(seed, *each)) for seed, each in enumerate(groups)]
    alone = [(name, {key: tensor.clone() for key, tensor in state.items()}) for name, state in states]
    expected = average_states(alone)
    total = WeightedSum()
    for name, state in states[:-1]:
        total.add(state, name=name)
    ahead = deepcopy(total).mean_with(states[-1][1])
    total.add(states[-1][1])
    for mean in average_states(states), average_states(states, mapped=True), ahead, total.mean():
        assert list(mean) == list(expected)
        assert all(torch.equal(mean[key], expected[key]) for key in expected)
        places: dict[int, list[str]] = {}
        for key, tensor in mean.items():
            places.setdefault(tensor.data_ptr(), []).append(key)
        assert [keys for keys in places.values() if len(keys) > 1] == together


def test_views_of_one_storage_are_tied_only_where_they_are_the_same() -> None:
    whole = torch.arange(6.0)
    state = {"whole": whole, "same": whole, "part": whole[:3], "shaped": whole.view(2, 3), "empty": whole[:0]}
    state |= {"bits": whole.view(torch.int32), "empty too": whole[:0]}
    assert tied_groups(state) == {key: "whole" if key == "same" else key for key in state}


def test_tied_tensors_take_the_memory_of_one() -> None:
    total = WeightedSum()
    total.add(tied_state(0, "ab"))
    assert "a" in total.total and "b" not in total.total
    mean = total.mean()
    assert mean["a"] is mean["b"]


def test_integer_tensors_are_mentioned_in_the_card() -> None:
    assert integer_rule(layout_of({"w": torch.ones(1)})) == integer_rule({}) == ""
    assert integer_rule(layout_of({"w": torch.ones(1), "n": torch.tensor(1)})) == INTEGER_RULE
    assert "first ingredient by hash" in INTEGER_RULE
