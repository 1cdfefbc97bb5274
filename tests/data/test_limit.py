"""The limit: number of images per set and their proportions."""

import logging
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError

from soups.core.errors import UsageError
from soups.data.limit import occurrences_before, proportional_counts, select_limited_rows
from soups.data.samples import make_samples
from soups.data.settings import DataSettings


def table(rows: dict[tuple[str, str], int], groups: int = 0) -> pd.DataFrame:
    """Return a table with a number of rows for each (split, label), in `groups` groups of each split, or one each."""
    content = [
        (f"{split}/{label}/{number}.png", label, f"g{number % groups}" if groups else f"{split}{label}{number}", split)
        for (split, label), count in rows.items()
        for number in range(count)
    ]
    return pd.DataFrame(content, columns=["image", "label", "group", "split"], dtype=str)


def counted(samples: pd.DataFrame, limit: int, *columns: str, seed: int = 0) -> dict[Any, int]:
    kept = samples[select_limited_rows(samples, limit, seed)]
    return dict(Counter(kept[list(columns)].itertuples(index=False, name=None)))


def test_each_set_is_limited_in_the_proportions_of_its_classes() -> None:
    samples = table({("train", "a"): 60, ("train", "b"): 30, ("train", "c"): 1, ("val", "a"): 9, ("test", ""): 40})
    assert counted(samples, 10, "split", "label") == {
        ("train", "a"): 6, ("train", "b"): 3, ("train", "c"): 1, ("val", "a"): 9, ("test", ""): 10,
    }  # fmt: skip


def test_a_limit_above_every_size_changes_nothing() -> None:
    samples = table({("train", "a"): 6, ("train", "b"): 3, ("val", "a"): 2, ("blur", "a"): 9})
    assert select_limited_rows(samples, 9, 0).all()


def test_groups_keep_their_shares() -> None:
    samples = table({("train", "a"): 80, ("train", "b"): 40, ("test", "a"): 7}, groups=4)
    kept = counted(samples, 30, "split", "label", "group")
    assert set(kept) >= {("train", label, f"g{number}") for label in "ab" for number in range(4)}
    assert {kept["train", "a", f"g{number}"] for number in range(4)} == {5}
    assert {kept["train", "b", f"g{number}"] for number in range(4)} <= {2, 3}


def test_every_image_is_drawn_equally_often() -> None:
    samples = table({("train", "a"): 8, ("train", "b"): 4}, groups=3)
    times = sum(select_limited_rows(samples, 6, seed).astype(int) for seed in range(600))
    assert np.abs(times / 600 - 0.5).max() < 0.08  # Four standard deviations.


def test_the_seed_draws_but_not_the_order_of_the_rows_nor_the_other_sets() -> None:
    samples = table({("train", "a"): 50, ("train", "b"): 50, ("test", "a"): 30, ("val", "a"): 30})
    one = samples[select_limited_rows(samples, 20, 0)]
    turned = samples.iloc[::-1].reset_index(drop=True)
    assert set(turned[select_limited_rows(turned, 20, 0)]["image"]) == set(one["image"])
    other = samples[select_limited_rows(samples, 20, 1)]
    same = {
        split: set(rows["image"]) == set(one[one["split"] == split]["image"]) for split, rows in other.groupby("split")
    }
    assert same == {"train": False, "val": False, "test": True}


def test_a_shift_of_the_test_images_keeps_the_same_images() -> None:
    test = table({("test", "a"): 40, ("test", "b"): 20}, groups=5)
    blur = test.assign(split="blur", image=test["image"].str.replace("test/", "shifts/blur/"))
    both = pd.concat([test, blur], ignore_index=True)
    kept = both[select_limited_rows(both, 15, 3)]
    names = {
        split: [name.split("/", 1 + (split == "blur"))[-1] for name in rows["image"]]
        for split, rows in kept.groupby("split")
    }
    assert names["test"] == names["blur"] and len(names["test"]) == 15


def test_a_limit_below_the_number_of_classes_is_an_error() -> None:
    samples = table({("train", "a"): 5, ("train", "b"): 5, ("train", "c"): 5})
    with pytest.raises(UsageError, match=r"--limit 2: too few training images\n  expected: 3, one of each class"):
        select_limited_rows(samples, 2, 0)
    assert counted(samples, 3, "label") == {("a",): 1, ("b",): 1, ("c",): 1}
    with pytest.raises(ValidationError, match="greater than 0"):
        DataSettings(limit=0)


@pytest.mark.parametrize("count", range(11))
def test_proportional_counts_are_whole_and_within_sizes(count: int) -> None:
    sizes = [6, 1, 3]
    dealt = proportional_counts(sizes, count)
    assert dealt.sum() == count and (dealt <= sizes).all()
    assert count < 3 or (dealt >= 1).all()


def test_a_limited_table_is_a_part_of_the_whole_one(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for split in ("train", "test", "shifts/noisy"):
        for number in range(24):
            path = tmp_path / split / "ab"[number % 2] / f"p{number // 4}_{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    (tmp_path / "corrections.csv").write_text("match,factor,from,to\np0,label,a,b\np3,label,*,a\n", encoding="utf-8")
    settings = DataSettings(data_location=str(tmp_path), group_pattern=r"p\d", val_ratio=0.5)
    whole = make_samples(settings)
    with caplog.at_level(logging.INFO, logger="soups"):
        part = make_samples(settings.model_copy(update={"limit": 6}))
    assert "--limit 6: uses noisy 6 of 24 (3 a, 3 b), test 6 of 24 (3 a, 3 b), train 6 of 12 (3 a, 3 b)" in caplog.text
    assert part.merge(whole).equals(part) and Counter(part["split"]) == dict.fromkeys(
        ["train", "val", "test", "noisy"], 6
    )
    corrected = make_samples(settings.model_copy(update={"limit": 6, "relabel": "corrections.csv"}))
    assert (corrected["image"] == part["image"]).all() and (corrected["split"] == part["split"]).all()


def test_occurrences_before_a_value_are_counted() -> None:
    values = np.array([3, 1, 3, 3, 1])
    assert occurrences_before(values).tolist() == [0, 0, 1, 2, 1]
    assert occurrences_before(values[:0]).tolist() == []
