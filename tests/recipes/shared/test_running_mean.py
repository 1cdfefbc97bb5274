"""The running sum: the bits of a plain one, each ingredient read once, the next one ahead."""

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


class Shelf:
    """Ingredients that tell when, and in which thread, they are read."""

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
def test_the_bits_are_those_of_a_plain_sum_and_nothing_is_read_twice(mapped: bool) -> None:
    for seed in range(20):
        generator, shelf, plain = np.random.default_rng(seed), Shelf(6, mapped), WeightedSum()
        with RunningSum() as total:
            total.add(shelf.ingredients[0])
            plain.add(shelf.states[0])
            for index in range(1, 6):
                ingredient, state = shelf.ingredients[index], shelf.states[index]
                following = shelf.ingredients[index + 1] if index < 5 else None
                tried = generator.random() < 0.7
                if tried:
                    assert equal(total.mean_with(ingredient, following=following), plain.mean_with(state))
                if generator.random() < 0.5 or not tried:
                    total.add(ingredient)
                    plain.add(state)
            assert equal(total.mean(), plain.mean())
        assert max(shelf.read.count(f"m{index}") for index in range(6)) == 1


def test_taking_away_again() -> None:
    shelf, plain = Shelf(3), WeightedSum()
    with RunningSum() as total:
        for ingredient, state in zip(shelf.ingredients, shelf.states, strict=True):
            total.add(ingredient)
            plain.add(state)
        assert equal(total.mean_with(shelf.ingredients[1], -1.0), plain.mean_with(shelf.states[1], -1.0))
        total.add(shelf.ingredients[1], -1.0)
        plain.add(shelf.states[1], -1.0)
        assert equal(total.mean(), plain.mean())
    assert shelf.read == ["m0", "m1", "m2", "m1"]


def test_the_next_is_read_while_one_is_judged_and_never_two() -> None:
    shelf, begun = Shelf(5, mapped=True), []

    def judge(state: Any, accept: Any = None) -> Verdict:
        for _ in range(1000):
            if len(shelf.read) == min(5, len(begun) + 3):  # The first and its rival were read before.
                break
            threading.Event().wait(0.002)
        begun.append(list(shelf.read))
        return Verdict(0.0 if len(begun) % 2 else -9.0, 0, 1)

    known = Ingredient("m0", "0", 0.0, 0.0, shelf.ingredients[0].load, True, lambda: Verdict(0.0, 0, 1))
    soup = greedy(Pool((known, *shelf.ingredients[1:])), judge)
    assert [len(read) for read in begun] == [3, 4, 5, 5]
    assert [shelf.threads[f"m{index}"] for index in range(5)] == [True, True, False, False, False]
    assert shelf.read == ["m0", "m1", "m2", "m3", "m4"] and [part.name for part in soup.ingredients] == [
        "m0",
        "m1",
        "m3",
    ]
    # Ours alone: other tests of this process may have left threads of libraries.
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("read-ahead")]


def test_a_problem_ahead_shows_when_its_turn_comes() -> None:
    def broken() -> dict[str, torch.Tensor]:
        raise DataError("m2: changed since it was logged")

    shelf, decisions = Shelf(3), []
    parts = (*shelf.ingredients[:2], Ingredient("m2", "x", -2.0, 0.0, broken, mapped=True))
    with pytest.raises(DataError, match="m2: changed"):
        greedy(Pool(parts), lambda state, accept=None: Verdict(1.0, 0, 1), on_decision=decisions.append)
    assert [line["candidate"] for line in decisions] == ["m0", "m1"]


def test_same_numbers_looks_at_what_is_averaged() -> None:
    one = {"w": torch.tensor([1.0, 2.0]), "n": torch.tensor(1)}
    assert equal_tensors(one, {"w": torch.tensor([1.0, 2.0]), "n": torch.tensor(2)})
    assert not equal_tensors(one, {"w": torch.tensor([1.0, 2.0000002]), "n": torch.tensor(1)})
