"""Concatenation of several data locations, and its errors."""

import logging
from pathlib import Path
from typing import Any

import pytest

from soups.core.errors import DataError, UsageError
from soups.data.layouts.locate import resolve_locations
from soups.data.samples import data_fingerprints, make_samples
from soups.data.settings import DataSettings
from tests.data.data_sets import touch
from tests.data.people import PEOPLE, make_people


def join(*roots: Path, **settings: Any) -> Any:
    return make_samples(DataSettings(data_location=tuple(map(str, roots)), **settings))


@pytest.fixture
def two(tmp_path: Path) -> tuple[Path, Path]:
    """Real images in one folder, generated ones in the other, of the same names; the test set is in the second."""
    first = touch(tmp_path / "one", "train/real/1.png", "train/real/2.png", "train/odd/1.png", "train/odd/2.png")
    second = touch(tmp_path / "two", "train/fake/1.png", "train/fake/2.png", "test/real/1.png", "test/fake/1.png")
    return first, second


def test_one_data_location_is_recorded_as_a_string() -> None:
    for location in ("d", ["d"], ("d",)):
        settings = DataSettings.model_validate({"data_location": location})
        assert settings.model_dump(mode="json")["data_location"] == "d" and settings.root == Path("d")
    assert DataSettings().root == Path() and DataSettings().locations == ()
    both = DataSettings.model_validate({"data_location": ["a", "b"]})
    assert DataSettings.model_validate(both.model_dump(mode="json")) == both
    with pytest.raises(ValueError, match="expected one folder or several"):
        DataSettings.model_validate({"data_location": []})


@pytest.mark.parametrize(
    ("locations", "root"),
    [(("x/a", "x/b"), "x"), (("a", "./b"), "."), (("../a", "b"), ""), (("/d/x/a", "/d/y"), "/d"), (("a", "a2"), ".")],
)
def test_the_root_of_several_locations(locations: tuple[str, ...], root: str) -> None:
    assert DataSettings(data_location=locations).root == Path(root)


def test_classes_are_joined_by_name_and_images_keep_their_folders(two: tuple[Path, Path]) -> None:
    samples = join(*two, val_ratio=None)
    assert [tuple(row) for row in samples[["image", "label", "split", "source"]].itertuples(index=False)] == [
        ("one/train/odd/1.png", "odd", "train", "one"),
        ("one/train/odd/2.png", "odd", "train", "one"),
        ("one/train/real/1.png", "real", "train", "one"),
        ("one/train/real/2.png", "real", "train", "one"),
        ("two/test/fake/1.png", "fake", "test", "two"),
        ("two/test/real/1.png", "real", "test", "two"),
        ("two/train/fake/1.png", "fake", "train", "two"),
        ("two/train/fake/2.png", "fake", "train", "two"),
    ]
    assert (samples["group"] == samples["image"]).all()


def test_relative_folders_give_the_same_table(two: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    absolute = join(*two, val_ratio=None)
    monkeypatch.chdir(two[0].parent)
    assert join(Path("one"), Path("two"), val_ratio=None).equals(absolute)
    assert data_fingerprints(join(Path("two"), Path("one"), val_ratio=None)) == data_fingerprints(absolute)
    monkeypatch.chdir(two[0])
    mixed = join(Path(), two[1], val_ratio=None)
    assert mixed["image"].tolist() == absolute["image"].tolist()


def test_test_images_of_several_folders_and_of_another(
    two: tuple[Path, Path], caplog: pytest.LogCaptureFixture
) -> None:
    touch(two[0], "test/odd/9.png", "val/real/7.png")
    with caplog.at_level(logging.INFO, logger="soups"):
        samples = join(*two)
    assert "test images: 1 of one, 2 of two" in caplog.text
    # Where one folder has its own validation images, the other's all train.
    assert samples.loc[samples["split"] == "val", "image"].tolist() == ["one/val/real/7.png"]
    touch(two[0].parent, "eval/1.png")
    samples = join(*two, test_location=str(two[0].parent / "eval"))
    assert samples.loc[samples["split"] == "test", ["image", "source"]].values.tolist() == [["eval/1.png", "eval"]]


def test_groups_of_one_name_are_one_group(tmp_path: Path) -> None:
    for name in ("one", "two"):
        touch(tmp_path / name, *(f"{label}/p{number}.png" for label in "ab" for number in range(4)))
    samples = join(tmp_path / "one", tmp_path / "two", group_pattern=r"p\d", val_ratio=0.5)
    assert (samples.groupby("group")["split"].nunique() == 1).all() and samples["group"].nunique() == 4


def test_schema_layouts_are_concatenated(tmp_path: Path) -> None:
    make_people(tmp_path / "one" / "train" / "images", PEOPLE[:2])
    make_people(tmp_path / "two" / "images", PEOPLE[2:])
    (tmp_path / "two" / "eval").mkdir()
    found = resolve_locations(DataSettings(data_location=(str(tmp_path / "one"), str(tmp_path / "two"))))
    assert found.layout == "profile" and found.test_location == str(tmp_path / "two" / "eval")
    assert found.locations == (str(tmp_path / "one" / "train"), str(tmp_path / "two"))
    assert resolve_locations(found) == found
    (tmp_path / "two" / "eval" / "1.jpg").touch()
    samples = make_samples(found.model_copy(update={"val_ratio": 0.5}))
    assert set(samples["group"]) >= {"000001", "000004"} and set(samples["source"]) == {"one/train", "two", "two/eval"}
    (tmp_path / "one" / "train" / "eval").mkdir()
    with pytest.raises(UsageError, match=r"several test sets(.|\n)*--test-location"):
        resolve_locations(found.model_copy(update={"test_location": None}))


def test_incompatible_data_locations_are_errors(two: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"--data-location: .*one is named twice"):
        join(two[0], two[0])
    with pytest.raises(UsageError, match=r"two/train lies in .*two\n"):
        join(two[1], two[1] / "train")
    with pytest.raises(DataError, match=r"--data-location .*nowhere: no such folder"):
        join(two[0], tmp_path / "nowhere")
    make_people(tmp_path / "three" / "images")
    with pytest.raises(
        DataError, match=r"folders of different layouts(.|\n)*one: folder, .*three: profile(.|\n)*--lay"
    ):
        join(two[0], tmp_path / "three")
    touch(two[0], "test/zebra/1.png")
    with pytest.raises(DataError, match=r"one/test: classes without training images: zebra\n.*some of fake, odd, real"):
        join(*two)


def test_tables_of_labels_with_different_names_are_refused(tmp_path: Path) -> None:
    for folder, name in (("one", "train.csv"), ("two", "labels.csv")):
        touch(tmp_path, f"{folder}/1.png", f"{folder}/2.png")
        (tmp_path / folder / name).write_text("image,label\n1,a\n2,b\n", encoding="utf-8")
    locations = tuple(str(tmp_path / name) for name in ("one", "two"))
    with pytest.raises(DataError, match=r"different names(?s:.*)two: labels\.csv(?s:.*)the name labels\.csv"):
        resolve_locations(DataSettings(data_location=locations))
    (tmp_path / "two" / "labels.csv").rename(tmp_path / "two" / "train.csv")
    assert resolve_locations(DataSettings(data_location=locations)).labels == "train.csv"
