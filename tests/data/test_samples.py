"""The samples table from beginning to end: groups, split, checks, fingerprints, oversampling."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from PIL import Image

from soups.core.errors import DataError, UsageError
from soups.data.samples import (
    data_fingerprints,
    evaluation_sets,
    label_space,
    make_samples,
    read_samples,
    set_rows,
    validation_rows,
)
from soups.data.settings import DataSettings
from soups.files.atomic import write_table


def make_images(root: Path, groups: int = 6, classes: str = "ab") -> Path:
    """`train/<class>/<group>_<class>.png`, real images of one pixel."""
    for label in classes:
        (root / "train" / label).mkdir(parents=True)
        for group in range(groups):
            Image.new("L", (1, 1)).save(root / "train" / label / f"w{group}_{label}.png")
    return root


def make(root: Path, **settings: Any) -> pd.DataFrame:
    return make_samples(DataSettings(data_location=str(root), **settings))


def rows_of(labels: list[str], split: str = "train") -> pd.DataFrame:
    images = [f"{index}.png" for index in range(len(labels))]
    return pd.DataFrame({"image": images, "label": labels, "group": images, "split": split}, dtype=str)


def test_an_image_of_which_nothing_is_said_is_its_own_group(tmp_path: Path) -> None:
    samples = make(make_images(tmp_path), val_ratio=0.5)
    assert (samples["group"] == samples["image"]).all()
    assert list(samples.columns) == ["image", "label", "group", "split"]
    assert samples.groupby(["split", "label"]).size().to_dict() == {
        ("train", "a"): 3, ("train", "b"): 3, ("val", "a"): 3, ("val", "b"): 3,
    }  # fmt: skip


@pytest.mark.parametrize("pattern", [r"(w\d+)_", r"w\d+"])
def test_groups_from_a_pattern_stay_whole(tmp_path: Path, pattern: str) -> None:
    samples = make(make_images(tmp_path), val_ratio=0.5, group_pattern=pattern)
    assert set(samples["group"]) == {f"w{group}" for group in range(6)}
    assert (samples.groupby("group")["split"].nunique() == 1).all()


def test_groups_from_a_table_by_path_or_name(tmp_path: Path) -> None:
    make_images(tmp_path, groups=2)
    text = "image,group\ntrain/a/w0_a.png,p\nw0_b,p\nb/w1_b.png,q\nw1_a.png,q\n"
    (tmp_path / "groups.csv").write_text(text, encoding="utf-8")
    samples = make(tmp_path, val_ratio=0.5, groups="groups.csv")
    assert list(samples["group"]) == ["p", "q", "p", "q"]
    (tmp_path / "groups.csv").write_text(text.replace("w1_a.png,q\n", ""), encoding="utf-8")
    with pytest.raises(DataError, match=r"--groups: no group for 1 images: train/a/w1_a\.png"):
        make(tmp_path, val_ratio=0.5, groups="groups.csv")
    (tmp_path / "groups.csv").write_text("image,group\nw0_a,p\nw0_b,\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"groups\.csv, row 3: column 'group' is empty"):
        make(tmp_path, groups="groups.csv")
    (tmp_path / "groups.csv").write_text("image,group\nw0_a,p\nw0_a,q\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"groups\.csv, rows 2 and 3: the same image twice"):
        make(tmp_path, groups="groups.csv")


def test_wrong_groups_are_refused(tmp_path: Path) -> None:
    make_images(tmp_path)
    with pytest.raises(UsageError, match=r"--group-pattern '\(': not a regular expression"):
        make(tmp_path, group_pattern="(")
    with pytest.raises(DataError, match=r"--group-pattern: no group for 10 images: train/a/w0_a"):
        make(tmp_path, group_pattern="w5")
    with pytest.raises(UsageError, match=r"--groups and --group-pattern both name the groups"):
        make(tmp_path, group_pattern="w5", groups="x.csv")
    with pytest.raises(DataError, match=r"^1 group for(.|\n)*at least 3 groups for --val-ratio 0\.2"):
        make(tmp_path, group_pattern="(train)")


def test_a_pattern_may_miss_test_images_with_a_notice(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    make_images(tmp_path)
    (tmp_path / "test").mkdir()
    (tmp_path / "test" / "9.png").touch()
    samples = make(tmp_path, val_ratio=0.5, group_pattern=r"w\d")
    assert samples.loc[samples["split"] == "test", "group"].tolist() == ["test/9.png"]
    assert "1 test images; each is a group by itself" in caplog.text


def test_given_splits_that_share_a_group_are_noticed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    make_images(tmp_path)
    (tmp_path / "val" / "a").mkdir(parents=True)
    (tmp_path / "val" / "a" / "w3_x.png").touch()
    samples = make(tmp_path, group_pattern=r"w\d")
    assert (samples["split"] == "val").sum() == 1
    assert "groups both in train and in val, so that scores are too high: w3" in caplog.text


def test_unknown_layout_and_single_class(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"unknown layout 'folders'(.|\n)*did you mean 'folder'"):
        make(tmp_path, layout="folders")
    with pytest.raises(DataError, match=r"only the class a(.|\n)*at least two classes"):
        make(make_images(tmp_path, classes="a"))


def test_a_test_set_is_labelled_as_a_whole_or_not_at_all(tmp_path: Path) -> None:
    for name in "1234":
        (tmp_path / f"{name}.png").touch()
    text = "image,label,split\n1,a,train\n2,b,train\n3,a,test\n4,,test\n"
    (tmp_path / "labels.csv").write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=r"test: 1 of 2 images have no label: 4\.png"):
        make(tmp_path, layout="csv", split_column="split", val_ratio=None)
    (tmp_path / "labels.csv").write_text(text.replace("4,,", "4,zebra,"), encoding="utf-8")
    with pytest.raises(DataError, match=r"test: classes without training images: zebra"):
        make(tmp_path, layout="csv", split_column="split", val_ratio=None)


def test_test_location_replaces_the_test_folder(tmp_path: Path) -> None:
    make_images(tmp_path / "data")
    for name in ("data/test/1.png", "eval/2.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    samples = make(tmp_path / "data", val_ratio=0.5, test_location=str(tmp_path / "eval"))
    assert samples.loc[samples["split"] == "test", "image"].tolist() == ["../eval/2.png"]


def test_training_images_are_no_test_images(tmp_path: Path) -> None:
    make_images(tmp_path)
    with pytest.raises(DataError, match=r"the same image in two sets: train/a/w0_a\.png"):
        make(tmp_path, val_ratio=0.5, test_location=str(tmp_path / "train"))


def test_groups_of_a_csv_data_set(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in "1234":
        (tmp_path / f"{name}.png").touch()
    text = "image,label,who\n1,a,p\n2,b,p\n3,a,q\n4,b,q\n"
    (tmp_path / "labels.csv").write_text(text, encoding="utf-8")
    (tmp_path / "groups.csv").write_text("image,team\n1,x\n2,y\n3,y\n4,x\n", encoding="utf-8")
    own = make(tmp_path, layout="csv", val_ratio=0.5, group_column="who")
    assert list(own["group"]) == ["p", "p", "q", "q"] and own["split"].nunique() == 2
    other = make(tmp_path, layout="csv", val_ratio=0.5, group_column="team", groups="groups.csv")
    assert list(other["group"]) == ["x", "y", "y", "x"]
    with pytest.raises(UsageError, match=r"--group-pattern and --group-column both name the groups"):
        make(tmp_path, layout="csv", group_column="who", group_pattern="x")
    (tmp_path / "labels.csv").write_text(text.replace("3,a,q", "3,a,"), encoding="utf-8")
    with pytest.raises(DataError, match=r"labels\.csv, row 4: column 'who' is empty"):
        make(tmp_path, layout="csv", group_column="who")
    assert not caplog.text


def test_bad_images_are_left_out_of_training_only(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    make_images(tmp_path)
    (tmp_path / "test").mkdir()
    for name in ("train/a/w0_a.png", "train/b/w1_b.png", "test/9.png"):
        (tmp_path / name).write_text("no image", encoding="utf-8")
    kept = make(tmp_path, val_ratio=0.5, skip_bad_images=True)
    assert len(kept) == 11 and "test/9.png" in set(kept["image"])
    assert not {"train/a/w0_a.png", "train/b/w1_b.png"} & set(kept["image"])
    assert "w0_a.png: not an image" in caplog.text
    assert len(make(tmp_path, val_ratio=0.5)) == 13


def test_the_table_survives_its_file(tmp_path: Path) -> None:
    samples = make(make_images(tmp_path / "data"), val_ratio=0.5)
    write_table(tmp_path / "samples.csv", samples)
    again = read_samples(tmp_path / "samples.csv")
    assert again.equals(samples) and data_fingerprints(again) == data_fingerprints(samples)
    write_table(tmp_path / "samples.csv", samples.drop(columns=["group", "split"]))
    with pytest.raises(DataError, match=r"samples\.csv: columns are missing: group, split"):
        read_samples(tmp_path / "samples.csv")


def test_odd_names_survive_the_file(tmp_path: Path) -> None:
    names = ["a,b.png", 'quo"te.png', " space .png", "new\nline.png", "ü 中.PNG", "NA.png", "#1.png"]
    for label in ("NA", "007"):
        (tmp_path / "data" / label).mkdir(parents=True)
        for name in names:
            Image.new("L", (1, 1)).save(tmp_path / "data" / label / name, "PNG")
    samples = make(tmp_path / "data", val_ratio=0.5)
    assert set(samples["image"]) == {f"{label}/{name}" for label in ("NA", "007") for name in names}
    write_table(tmp_path / "samples.csv", samples)
    assert read_samples(tmp_path / "samples.csv").equals(samples)


def test_fingerprints_tell_data_from_split() -> None:
    samples = rows_of(["a", "b", "a"])
    data, split = data_fingerprints(samples)
    assert len(data) == len(split) == 16
    assert data_fingerprints(samples.iloc[::-1]) == (data, split)
    moved = samples.assign(split=["val", "train", "train"])
    assert data_fingerprints(moved)[0] == data and data_fingerprints(moved)[1] != split
    assert data_fingerprints(samples.assign(group="g"))[0] != data
    assert data_fingerprints(samples.assign(label=["b", "b", "a"]))[0] != data


def test_label_space_of_the_training_rows() -> None:
    samples = rows_of(["10", "2", "1"])
    assert label_space(samples).names == ("1", "10", "2")
    assert label_space(samples, ["1", "2", "10"]).names == ("1", "2", "10")
    with pytest.raises(UsageError, match=r"--class-order does not fit"):
        label_space(samples, ["1", "2"])


def test_sets_in_a_fixed_order() -> None:
    samples = rows_of(["a", "b", "a", "b", "a"])
    samples["split"] = ["train", "noise", "test", "blur", "val"]
    assert evaluation_sets(samples) == ["val", "test", "blur", "noise"]
    assert set_rows(samples, "blur").index.tolist() == [3] and set_rows(samples, "val").index.tolist() == [4]
    only = samples[samples["split"] == "train"]
    assert evaluation_sets(only) == ["val"]
    assert validation_rows(only).index.tolist() == [0]
