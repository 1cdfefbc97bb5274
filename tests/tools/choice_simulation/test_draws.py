"""What rules take from cached logits, against Algorithm 1 written out, and cross-fitting that sees other folds only."""

from pathlib import Path

import numpy as np
import pytest
import torch

from soups.core.scores import log_loss, softmax
from soups.ensembles.choice import choose, sum_losses
from tools.choice_simulation import draws
from tools.choice_simulation.draws import BEST_SINGLE, CANDIDATES, CHOICES, choices, cross_fit, run_draw, select
from tools.choice_simulation.subsets import Subsets

MODELS, IMAGES = 4, 60


class RandomSubsets(Subsets):
    """Random logits for each subset."""

    def __init__(self, seed: int) -> None:
        generator = np.random.default_rng(seed)
        labels = generator.integers(3, size=IMAGES)
        super().__init__(Path(), torch.nn.Identity(), np.empty((IMAGES, 1)), labels)
        self.models = MODELS
        self.tables = generator.normal(size=(1 << MODELS, IMAGES, 3)) + 1.5 * np.eye(3)[labels]

    def _read_or_compute(self, mask: int) -> np.ndarray:
        return self.tables[mask].astype(np.float32)


@pytest.mark.parametrize("seed", range(8))
def test_greedy_is_algorithm_1_on_the_drawn_images(seed: int) -> None:
    subsets = RandomSubsets(seed)
    rows = np.arange(0, IMAGES, 2)

    def score(mask: int) -> tuple[float, float]:
        table = softmax(subsets.logits(mask)[rows])
        return float((table.argmax(axis=1) == subsets.labels[rows]).mean()), -log_loss(table, subsets.labels[rows])

    order = sorted(range(MODELS), key=lambda index: score(1 << index), reverse=True)
    equal = by_loss = 1 << order[0]
    for index in order[1:]:
        if score(equal | 1 << index)[0] >= score(equal)[0]:
            equal |= 1 << index
        if score(by_loss | 1 << index) >= score(by_loss):
            by_loss |= 1 << index
    taken = select(subsets, rows, (*draws.GREEDY,))
    assert taken[BEST_SINGLE] == 1 << order[0] and taken["uniform"] == (1 << MODELS) - 1
    assert (taken["greedy, equal (Algorithm 1)"], taken["greedy, ties by log-loss"]) == (equal, by_loss)


def test_cross_fitting_of_a_fold_does_not_see_its_labels() -> None:
    subsets, rows = RandomSubsets(0), np.arange(30)
    folds = rows % 3
    before = np.exp(-cross_fit(subsets, rows, folds))
    total = np.zeros_like(before)
    for label in range(3):
        subsets.labels[rows[folds == 0]] = label
        subsets.losses.cache_clear()
        subsets.correct.cache_clear()
        total += np.exp(-cross_fit(subsets, rows, folds))
    # The probabilities of the three classes sum to one, because the same model at the same temperature gives them.
    assert np.allclose(total[:, folds == 0], 1) and not np.allclose(total[:, folds != 0], 3 * before[:, folds != 0])


@pytest.mark.parametrize("seed", range(4))
def test_choices_are_those_of_the_product(seed: int) -> None:
    losses = np.random.default_rng(seed).gamma(1, size=(len(CANDIDATES), 40))
    folds = np.arange(40) % 5
    found = choices(losses, folds, seed)
    assert found.keys() == CHOICES.keys()
    for rule, (number, factor) in CHOICES.items():
        choice = choose(sum_losses(losses[:number]), folds, factor, repeats=200, seed=seed)
        assert found[rule] == CANDIDATES[choice.chosen]


def test_gains_are_those_on_the_other_images() -> None:
    subsets = RandomSubsets(3)
    rules = run_draw(subsets, 30, 3, [5])
    assert BEST_SINGLE not in rules
    uniform = rules["uniform"]
    assert uniform["taken"] == 15 and uniform["gain"] * 30 == pytest.approx(round(uniform["gain"] * 30))
    assert rules == run_draw(subsets, 30, 3, [5]) != run_draw(subsets, 30, 3, [6])
