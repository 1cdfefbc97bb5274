"""Layouts with a schema: the samples table, the test set and errors."""

import logging
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from soups.core.errors import DataError, UsageError
from soups.data.layouts.factor_layout import factor_samples
from soups.data.layouts.layouts import separate_test_samples
from soups.data.layouts.locate import resolve_locations
from soups.data.samples import make_samples
from soups.data.settings import DataSettings
from tests.data.people import PEOPLE, PHOTOS, make_people


def table(root: Path, **settings: Any) -> pd.DataFrame:
    return factor_samples(DataSettings(data_location=str(root), layout="profile", **settings))


def test_every_photo_has_its_class_and_its_person(tmp_path: Path) -> None:
    make_people(tmp_path / "images")
    rows = table(tmp_path).set_index("image")
    assert len(rows) == 28 and list(rows.columns) == ["label", "group", "split", "mask", "gender", "age"]
    assert rows.loc["images/000001_female_Asian_45/mask3.jpg", ["label", "group"]].tolist() == [
        *("mask/female/middle", "000001")
    ]
    assert rows.loc["images/000002_male_Asian_29/incorrect_mask.jpg", "label"] == "incorrect/male/young"
    assert rows.loc["images/000003_male_Black_60/normal.jpg", ["mask", "gender", "age"]].tolist() == [
        *("normal", "male", "old")
    ]
    assert set(
        table(tmp_path, age_bands=(28, 59)).set_index("image").loc["images/000002_male_Asian_29/normal.jpg"]
    ) >= {"middle"}


@pytest.mark.parametrize("below", ["images", "train/images", "."])
def test_any_parent_folder_of_the_images_resolves_to_the_same(tmp_path: Path, below: str) -> None:
    make_people(tmp_path / below)
    assert len(table(tmp_path)) == 28


def test_hidden_files_and_unknown_names_are_logged_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    images = make_people(tmp_path / "images")
    for name in ("._000001_female_Asian_45", "note.txt", "stray.jpg"):
        (images / name).touch()
    for name in ("._mask1.jpg", "mask6.jpg", "readme.txt"):
        (images / PEOPLE[0] / name).touch()
    (images / PEOPLE[1] / "more").mkdir()
    with caplog.at_level(logging.INFO, logger="soups"):
        assert len(table(tmp_path)) == 28
    assert [record.message for record in caplog.records] == [
        f"{images}: skipped 7 hidden files and names that do not match the layout"
    ]


@pytest.mark.parametrize(
    ("person", "words"),
    [
        ("000009_female_45", r"000009_female_45: the name does not match \{person\}_\{gender\}_\{race\}_\{age\}"),
        ("000009_female_Asian_old", r"000009_female_Asian_old: age is 'old', expected a number"),
        ("000009_woman_Asian_45", r"000009_woman_Asian_45: gender is 'woman', expected one of male, female"),
    ],
)
def test_a_folder_that_does_not_match_the_pattern_is_an_error(tmp_path: Path, person: str, words: str) -> None:
    make_people(tmp_path / "images", [*PEOPLE, person])
    with pytest.raises(DataError, match=words):
        table(tmp_path)
    with pytest.raises(DataError, match=words):
        table(tmp_path, skip_bad_images=True)


def test_up_to_ten_problems_are_listed_in_one_error(tmp_path: Path) -> None:
    make_people(tmp_path / "images", [f"{number:03}_male_x_y" for number in range(12)])
    with pytest.raises(DataError) as raised:
        table(tmp_path)
    assert str(raised.value).count("age is 'y'") == 10 and "… and 2 more" in str(raised.value)


def test_a_missing_photo_is_an_error_or_skipped(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    images = make_people(tmp_path / "images")
    (images / PEOPLE[2] / "mask4.jpg").unlink()
    (images / PEOPLE[2] / "normal.jpg").unlink()
    with pytest.raises(DataError, match=r"000003_male_Black_60: no image mask4, normal"):
        table(tmp_path)
    assert len(table(tmp_path, skip_bad_images=True)) == 26
    assert "continuing without 2 missing images" in caplog.text


def test_two_files_for_one_photo_are_named(tmp_path: Path) -> None:
    images = make_people(tmp_path / "images")
    (images / PEOPLE[0] / "normal.png").touch()
    with pytest.raises(DataError, match="000001_female_Asian_45: 2 images normal"):
        table(tmp_path)


def test_a_location_without_images_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    with pytest.raises(DataError, match="no images in it"):
        table(tmp_path)
    (tmp_path / "images").rmdir()
    with pytest.raises(DataError, match="no folder of images in the layout profile"):
        table(tmp_path)


def test_the_test_set_beside_the_images_is_found(tmp_path: Path) -> None:
    make_people(tmp_path / "train" / "images")
    (tmp_path / "eval" / "images").mkdir(parents=True)
    for name in ("b.jpg", "a.jpg"):
        (tmp_path / "eval" / "images" / name).touch()
    (tmp_path / "eval" / "info.csv").write_text("ImageID,ans\nb.jpg,0\na.jpg,0\n")
    samples = make_samples(resolve_locations(DataSettings(data_location=str(tmp_path), val_ratio=0.5)))
    test = samples[samples["split"] == "test"]
    assert test["image"].tolist() == ["../eval/images/a.jpg", "../eval/images/b.jpg"]
    assert set(test["label"]) == set(test["age"]) == {""}
    assert set(samples["split"]) == {"train", "val", "test"}


def test_a_test_set_with_labels_in_the_same_names(tmp_path: Path) -> None:
    make_people(tmp_path / "images")
    make_people(tmp_path / "elsewhere", ["000009_male_x_70"])
    settings = DataSettings(data_location=str(tmp_path), layout="profile", test_location=str(tmp_path / "elsewhere"))
    rows = separate_test_samples(settings, set())
    assert set(rows["split"]) == {"test"} and set(rows["age"]) == {"old"} and len(rows) == 7


def test_schemas_with_another_pattern_and_with_a_table(tmp_path: Path) -> None:
    factors = "factors: {sort: {field: %s, levels: [cat, dog]}, size: {field: %s, levels: [light, heavy], bands: [9]}}"
    (tmp_path / "plain.yaml").write_text('path: "{id}-{sort}-{weight}"\n' + factors % ("sort", "weight"))
    for name in ("1-cat-4.png", "2-dog-9.png", "3-dog-12.png", "4-owl-2.png", "note.txt"):
        (tmp_path / name).touch()
    flat = factor_samples(DataSettings(data_location=str(tmp_path), layout=str(tmp_path / "plain.yaml")))
    assert flat["label"].tolist() == ["cat/light", "dog/light", "dog/heavy"] and set(flat["group"]) == {""}
    own = "table: all.csv\nimage: file\ngroup: owner\n"
    (tmp_path / "table.yaml").write_text(own + factors % ("animal", "kilos"))
    (tmp_path / "all.csv").write_text("file,owner,animal,kilos\n1-cat-4.png,ann,cat,40\n2-dog-9,bob,dog,1.5\n")
    settings = DataSettings(data_location=str(tmp_path), layout=str(tmp_path / "table.yaml"))
    rows = factor_samples(settings)
    assert rows[["label", "group"]].to_numpy().tolist() == [["cat/heavy", "ann"], ["dog/light", "bob"]]
    (tmp_path / "all.csv").write_text("file,owner,animal,kilos\n1-cat-4.png,ann,owl,40\n")
    with pytest.raises(DataError, match=r"row 2: animal is 'owl', expected one of cat, dog"):
        factor_samples(settings)
    (tmp_path / "all.csv").write_text("file,owner,animal\n1-cat-4.png,ann,owl\n")
    with pytest.raises(DataError, match="no column 'kilos'"):
        factor_samples(settings)


# The target: some of the factors


def test_a_target_has_its_own_labels_and_the_same_split(tmp_path: Path) -> None:
    make_people(tmp_path / "images", [f"{n:03}_{('male', 'female')[n % 2]}_x_{20 + 7 * (n % 9)}" for n in range(30)])
    tables = {
        target: make_samples(DataSettings(data_location=str(tmp_path), target=target))
        for target in (None, "age", "gender,mask")
    }
    assert set(tables["age"]["label"]) == {"young", "middle", "old"}
    assert set(tables["gender,mask"]["label"]) == {
        f"{m}/{g}" for m in ("mask", "incorrect", "normal") for g in ("male", "female")
    }
    for samples in tables.values():
        assert samples["split"].tolist() == tables[None]["split"].tolist()
        assert samples["age"].tolist() == tables[None]["age"].tolist()
        assert (samples.groupby("group")["split"].nunique() == 1).all()


def test_invalid_targets_are_errors(tmp_path: Path) -> None:
    make_people(tmp_path / "images")
    with pytest.raises(UsageError, match=r"unknown factor 'agee'(?s:.*)did you mean 'age'"):
        make_samples(DataSettings(data_location=str(tmp_path), target="agee"))
    with pytest.raises(ValueError, match="factor names separated by commas"):
        DataSettings(target="age,age")
    for label in "ab":
        (tmp_path / "plain" / label).mkdir(parents=True)
        (tmp_path / "plain" / label / "x.png").touch()
    with pytest.raises(UsageError, match="labels of the layout folder are not made of factors"):
        make_samples(DataSettings(data_location=str(tmp_path / "plain"), target="age"))


def test_declared_classes_without_images_remain_classes(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    make_people(tmp_path / "images", ["1_male_x_20", "2_male_x_40", "3_male_x_25", "4_male_x_45"], PHOTOS)
    make_samples(DataSettings(data_location=str(tmp_path), val_ratio=0.5))
    assert "no training images of: mask/male/old, mask/female/young" in caplog.text
