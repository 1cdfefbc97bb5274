"""Oversampling, sampling probabilities and class weights."""

import numpy as np
import pandas as pd
import pytest

from soups.core.errors import UsageError
from soups.core.labels import Factor, LabelSpace
from soups.data.balance import class_weights, oversample, sampling_probabilities
from tests.data.data_sets import rows_of

SPACE = LabelSpace.product([Factor("sort", ("cat", "dog")), Factor("age", ("young", "old"))])


def people() -> pd.DataFrame:
    """Six training rows with factors."""
    labels = ["cat/young", "cat/young", "cat/old", "dog/young", "dog/young", "dog/old"]
    sorts, ages = zip(*(label.split("/") for label in labels), strict=True)
    return rows_of(labels).assign(sort=sorts, age=ages)


@pytest.mark.parametrize("seed", range(20))
def test_oversampling_repeats_rows(seed: int) -> None:
    random = np.random.default_rng(seed)
    labels = [f"c{index}" for index in random.integers(0, 4, 50)]
    rows = rows_of(labels)
    times = {name: int(random.integers(1, 5)) for name in sorted(set(labels))}
    positions = oversample(rows, [f"{name}={count}" for name, count in times.items()])
    assert positions.tolist() == [row for row, label in enumerate(labels) for _ in range(times[label])]
    balanced = oversample(rows, ("auto",))
    sizes = rows["label"].iloc[balanced].value_counts()
    assert set(sizes) == {rows["label"].value_counts().max()}
    repeats = np.bincount(balanced, minlength=len(rows))
    for label in times:
        own = repeats[rows["label"] == label]
        assert own.min() >= 1 and own.max() - own.min() <= 1
    assert oversample(rows, ()).tolist() == list(range(50))


@pytest.mark.parametrize("seed", range(20))
def test_oversampling_accepts_training_rows_only(seed: int) -> None:
    random = np.random.default_rng(seed)
    samples = rows_of([f"c{index}" for index in random.integers(0, 3, 60)], "")
    samples["split"] = random.choice(["train", "val", "test"], 60)
    train = samples[samples["split"] == "train"]
    for spec in (("auto",), ("c1=7",), ()):
        assert set(samples.loc[train.index[oversample(train, spec)], "split"]) == {"train"}
    with pytest.raises(AssertionError, match="only training rows"):
        oversample(samples, ("auto",))


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (["cat=3"], r"unknown class or level in --oversample 'cat'(.|\n)*one of a, b"),
        (["a=0"], r"--oversample a=0\n  expected: a whole number"),
        (["a=1.5"], r"--oversample a=1\.5"),
        (["a=auto"], r"--oversample a=auto\n  expected: a whole number"),
        (["a"], r"--oversample a\n"),
        (["auto", "a=2"], r"--oversample auto"),
        (["a=2", "a=3"], r"names a twice"),
    ],
)
def test_invalid_oversampling_is_an_error(spec: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        oversample(rows_of(["a", "b"]), spec)


@pytest.mark.parametrize(
    ("spec", "times"),
    [
        (["old=2"], [1, 1, 2, 1, 1, 2]),
        (["age=old=3"], [1, 1, 3, 1, 1, 3]),
        (["old=2", "dog=3"], [1, 1, 2, 3, 3, 6]),
        (["cat/young=2", "sort=dog=2"], [2, 2, 1, 2, 2, 2]),
        (["age=auto"], [1, 1, 2, 1, 1, 2]),
        (["auto"], [1, 1, 2, 1, 1, 2]),
    ],
)
def test_levels_of_factors_are_repeated(spec: list[str], times: list[int]) -> None:
    assert np.bincount(oversample(people(), spec)).tolist() == times


def test_a_level_of_two_factors_needs_its_factor() -> None:
    rows = people().assign(mood=["old", "new"] * 3)
    with pytest.raises(UsageError, match=r"old: a level of age and of mood(?s:.*)age=old or mood=old"):
        oversample(rows, ["old=2"])
    assert np.bincount(oversample(rows, ["mood=old=2"])).tolist() == [2, 1, 2, 1, 2, 1]
    with pytest.raises(UsageError, match="names age=old twice"):
        oversample(people(), ["old=2", "age=old=2"])
    with pytest.raises(UsageError, match=r"unknown class or level in --oversample 'elder'(?s:.*)cat, dog, old, young"):
        oversample(people(), ["elder=2"])


def test_automatic_weights_give_all_classes_the_same_total() -> None:
    labels = np.array([0] * 6 + [1] * 3 + [3])
    weights = class_weights(["auto"], labels, SPACE)
    totals = np.bincount(labels, weights=weights[labels], minlength=4)
    assert np.allclose(totals[[0, 1, 3]], 10 / 3) and weights[2] == 1
    assert np.isclose(weights[labels].mean(), 1)


def test_weights_of_classes_and_levels() -> None:
    labels = np.zeros(3, dtype=np.int64)
    assert class_weights(["old=2", "dog/old=1.5"], labels, SPACE).tolist() == [1, 2, 1, 3]
    assert class_weights(["sort=dog=0.5"], labels, SPACE).tolist() == [1, 1, 0.5, 0.5]
    for spec, words in [
        (["elder=2"], "unknown class or level in --class-weights"),
        (["old=0"], "a number above zero"),
        (["old=heavy"], "--class-weights old=heavy"),
        (["old"], "CLASS=NUMBER"),
        (["old=1", "old=2"], "names old twice"),
    ]:
        with pytest.raises(UsageError, match=words):
            class_weights(spec, labels, SPACE)


def test_sampling_probabilities_are_equal_for_every_class() -> None:
    labels = np.array([0, 0, 0, 2, 2, 5])
    chances = sampling_probabilities(labels)
    assert np.allclose(np.bincount(labels, weights=chances)[[0, 2, 5]], 1 / 3)
