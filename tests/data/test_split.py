"""The split keeps groups whole and class shares nearly equal."""

from itertools import combinations

import numpy as np
import pandas as pd
import pytest

from soups.core.errors import DataError
from soups.data.split import choose_groups, split_samples


def table(groups: list[str], labels: list[str], split: str = "") -> pd.DataFrame:
    images = [f"{index:05d}.png" for index in range(len(groups))]
    return pd.DataFrame({"image": images, "label": labels, "group": groups, "split": split}, dtype=str)


def random_table(random: np.random.Generator, groups: int, classes: int, most: int) -> pd.DataFrame:
    sizes = random.integers(1, most + 1, groups)
    names = np.repeat([f"g{index}" for index in range(groups)], sizes)
    labels = [f"c{index}" for index in random.integers(0, classes, len(names))]
    return table([str(name) for name in names], labels)


@pytest.mark.parametrize("seed", range(40))
def test_no_group_is_on_both_sides_and_every_class_trains(seed: int) -> None:
    random = np.random.default_rng(seed)
    samples = random_table(random, int(random.integers(8, 60)), int(random.integers(2, 6)), int(random.integers(1, 40)))
    ratio = float(random.choice([0.2, 0.3, 0.5]))
    decided = split_samples(samples, ratio, seed)
    train, val = decided[decided["split"] == "train"], decided[decided["split"] == "val"]
    assert not set(train["group"]) & set(val["group"])
    assert len(train) + len(val) == len(samples) and len(val)
    assert set(train["label"]) == set(samples["label"])
    assert decided.drop(columns="split").equals(samples.drop(columns="split"))
    wanted = int(np.floor(ratio * samples["group"].nunique() + 0.5))
    assert abs(val["group"].nunique() - wanted) <= (0 if samples["label"].value_counts().min() > 40 else 3)


@pytest.mark.parametrize("ratio", [0.2, 0.5])
def test_the_split_of_eight_writers_is_nearly_optimal(ratio: float) -> None:
    random = np.random.default_rng(3)
    counts = random.integers(2, 40, (8, 5))
    wanted = round(8 * ratio)

    def cost(chosen: tuple[int, ...]) -> float:
        totals = counts.sum(axis=0)
        return float(((counts[list(chosen)].sum(axis=0) - totals * wanted / 8) ** 2 / totals).sum())

    costs = sorted(cost(chosen) for chosen in combinations(range(8), wanted))
    ranks = []
    for seed in range(30):
        chosen = np.flatnonzero(choose_groups(counts, wanted, seed, list("abcde")))
        assert len(chosen) == wanted
        ranks.append(np.searchsorted(costs, cost(tuple(chosen)) - 1e-9) / len(costs))
    assert np.mean(ranks) < 0.15 and max(ranks) < 0.5


def test_the_split_depends_on_the_seed() -> None:
    samples = table([f"w{index % 8}" for index in range(160)], [f"c{index % 5}" for index in range(160)])
    splits = {tuple(split_samples(samples, 0.5, seed)["split"]) for seed in range(12)}
    assert len(splits) > 4
    assert split_samples(samples, 0.5, 3).equals(split_samples(samples, 0.5, 3))


def test_the_order_of_the_rows_does_not_matter() -> None:
    samples = random_table(np.random.default_rng(5), 30, 4, 9)
    shuffled = samples.sample(frac=1, random_state=1)
    one, other = split_samples(samples, 0.2, 7), split_samples(shuffled, 0.2, 7)
    assert one.equals(other.sort_index())


def test_single_images_are_stratified_as_well_as_whole_numbers_allow() -> None:
    labels = ["a"] * 500 + ["b"] * 50 + ["c"] * 7 + ["d"]
    samples = table([str(index) for index in range(len(labels))], labels)
    decided = split_samples(samples, 0.2, 0)
    shares = decided[decided["split"] == "val"]["label"].value_counts()
    assert shares["a"] in (100, 101) and shares["b"] == 10 and shares["c"] in (1, 2)
    assert "d" not in shares


def test_many_uneven_groups_come_near_the_ratio_in_images_too() -> None:
    random = np.random.default_rng(0)
    sizes = np.ceil(random.pareto(1.2, 60) * 10 + 1).astype(int)
    names = np.repeat([f"g{index}" for index in range(60)], sizes)
    samples = table([str(name) for name in names], [f"c{index}" for index in random.integers(0, 4, len(names))])
    for seed in range(5):
        share = (split_samples(samples, 0.25, seed)["split"] == "val").mean()
        assert abs(share - 0.25) < 0.03


def test_many_images_are_split_evenly() -> None:
    count = 30_000
    samples = table([str(index) for index in range(count)], [f"c{index % 100}" for index in range(count)])
    decided = split_samples(samples, 0.2, 0)
    assert (decided["split"] == "val").sum() == 6_000
    assert set(decided[decided["split"] == "val"]["label"].value_counts()) == {60}


def test_a_class_of_one_group_is_in_training() -> None:
    groups = ["only"] * 10 + [f"g{index}" for index in range(5) for _ in range(10)]
    samples = table(groups, ["rare"] * 10 + ["a", "b"] * 25)
    for seed in range(10):
        decided = split_samples(samples, 0.5, seed)
        assert set(decided.loc[decided["group"] == "only", "split"]) == {"train"}


def test_classes_in_one_group_only_cannot_be_split() -> None:
    samples = table(["p", "q", "r"], ["a", "b", "c"])
    with pytest.raises(DataError, match=r"no group can validate(.|\n)*a, b, c(.|\n)*val/ folder"):
        split_samples(samples, 0.5, 0)


@pytest.mark.parametrize(
    ("groups", "ratio", "needed"), [(1, 0.5, 2), (1, 0.2, 3), (2, 0.2, 3), (4, 0.1, 5), (2, 0.9, 6)]
)
def test_too_few_groups_are_an_error(groups: int, ratio: float, needed: int) -> None:
    names = [f"g{index % groups}" for index in range(20)]
    with pytest.raises(
        DataError, match=rf"^{groups} groups? for(.|\n)*at least {needed} groups(.|\n)*--val-ratio None"
    ):
        split_samples(table(names, ["a", "b"] * 10), ratio, 0)


def test_existing_validation_rows_do_not_change() -> None:
    samples = table(["a", "b", "c", "d"], ["x", "y", "x", "y"])
    samples["split"] = ["", "", "val", "test"]
    assert list(split_samples(samples, 0.5, 0)["split"]) == ["train", "train", "val", "test"]


def test_without_a_ratio_all_train_and_test_rows_stay() -> None:
    samples = table(["a", "b", "c"], ["x", "y", "x"])
    samples["split"] = ["", "", "blur"]
    assert list(split_samples(samples, None, 0)["split"]) == ["train", "train", "blur"]
    assert list(samples["split"]) == ["", "", "blur"]
