"""The running sum: the bits of a plain sum, one read for each ingredient, the next one in advance."""

import threading
from typing import Any

import numpy as np
import pytest
import torch

from soups.core.errors import DataError
from soups.recipes.greedy import greedy
from soups.recipes.shared.pool import Ingredient, Pool, Verdict
from soups.recipes.shared.running_mean import RunningSum, equal_tensors
from soups.weights.state_dict import WeightedSum


class CountedReads:
    """Ingredients that record when, and in which thread, they are read."""

    def __init__(self, number: int, mapped: bool = False) -> None:
        generator = np.random.default_rng(number)
        self.states = [
            {"w": torch.tensor(generator.normal(size=3000)).float(), "n": torch.tensor(index), "e": torch.zeros(0)}
            for index in range(number)
        ]
        self.read: list[str] = []
        self.threads: dict[str, bool] = {}
        self.ingredients = [
            Ingredient(f"m{index}", f"{index}", -index, 0.0, lambda index=index: self._load(index), mapped)
            for index in range(number)
        ]

    def _load(self, index: int) -> dict[str, torch.Tensor]:
        self.read.append(f"m{index}")
        self.threads[f"m{index}"] = threading.current_thread() is threading.main_thread()
        return self.states[index]


def equal(one: Any, other: Any) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


@pytest.mark.parametrize("mapped", [False, True])
def test_the_bits_are_those_of_a_plain_sum_and_each_ingredient_is_read_once(mapped: bool) -> None:
    for seed in range(20):
        generator, files, plain = np.random.default_rng(seed), CountedReads(6, mapped), WeightedSum()
        with RunningSum() as total:
            total.add(files.ingredients[0])
            plain.add(files.states[0])
            for index in range(1, 6):
                ingredient, state = files.ingredients[index], files.states[index]
                following = files.ingredients[index + 1] if index < 5 else None
                tried = generator.random() < 0.7
                if tried:
                    assert equal(total.mean_with(ingredient, following=following), plain.mean_with(state))
                if generator.random() < 0.5 or not tried:
                    total.add(ingredient)
                    plain.add(state)
            assert equal(total.mean(), plain.mean())
        assert max(files.read.count(f"m{index}") for index in range(6)) == 1


def test_ingredients_can_be_removed() -> None:
    files, plain = CountedReads(3), WeightedSum()
    with RunningSum() as total:
        for ingredient, state in zip(files.ingredients, files.states, strict=True):
            total.add(ingredient)
            plain.add(state)
        assert equal(total.mean_with(files.ingredients[1], -1.0), plain.mean_with(files.states[1], -1.0))
        total.add(files.ingredients[1], -1.0)
        plain.add(files.states[1], -1.0)
        assert equal(total.mean(), plain.mean())
    assert files.read == ["m0", "m1", "m2", "m1"]


def test_one_ingredient_is_read_in_advance_while_another_is_judged() -> None:
    files, begun = CountedReads(5, mapped=True), []

    def judge(state: Any, accept: Any = None) -> Verdict:
        for _ in range(1000):
            if len(files.read) == min(5, len(begun) + 3):  # The first and its candidate were read before.
                break
            threading.Event().wait(0.002)
        begun.append(list(files.read))
        return Verdict(0.0 if len(begun) % 2 else -9.0, 0, 1)

    known = Ingredient("m0", "0", 0.0, 0.0, files.ingredients[0].load, True, lambda: Verdict(0.0, 0, 1))
    soup = greedy(Pool((known, *files.ingredients[1:])), judge, accept="equal")
    assert [len(read) for read in begun] == [3, 4, 5, 5]
    assert [files.threads[f"m{index}"] for index in range(5)] == [True, True, False, False, False]
    assert files.read == ["m0", "m1", "m2", "m3", "m4"] and [part.name for part in soup.ingredients] == [
        "m0",
        "m1",
        "m3",
    ]
    # Only these: other tests of this process may have left threads of libraries.
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("read-ahead")]


def test_an_error_of_reading_in_advance_is_raised_at_its_candidate() -> None:
    def broken() -> dict[str, torch.Tensor]:
        raise DataError("m2: changed since it was logged")

    files, decisions = CountedReads(3), []
    parts = (*files.ingredients[:2], Ingredient("m2", "x", -2.0, 0.0, broken, mapped=True))
    with pytest.raises(DataError, match="m2: changed"):
        greedy(Pool(parts), lambda state, accept=None: Verdict(1.0, 0, 1), accept="equal", on_decision=decisions.append)
    assert [line["candidate"] for line in decisions] == ["m0", "m1"]


def test_equal_tensors_ignores_counters() -> None:
    one = {"w": torch.tensor([1.0, 2.0]), "n": torch.tensor(1)}
    assert equal_tensors(one, {"w": torch.tensor([1.0, 2.0]), "n": torch.tensor(2)})
    assert not equal_tensors(one, {"w": torch.tensor([1.0, 2.0000002]), "n": torch.tensor(1)})
