"""The samples table: checks, unreadable images, fingerprints and sets."""

import subprocess
import unicodedata
from pathlib import Path

import pytest
from PIL import Image

from soups.core.errors import DataError, UsageError
from soups.data.samples import (
    data_fingerprints,
    evaluation_sets,
    label_space,
    read_samples,
    set_rows,
)
from soups.files.atomic import write_table
from tests.data.data_sets import make_images, make_table, rows_of


def test_unknown_layout_and_single_class(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"unknown layout 'folders'(.|\n)*did you mean 'folder'"):
        make_table(tmp_path, layout="folders")
    with pytest.raises(DataError, match=r"only the class a(.|\n)*at least two classes"):
        make_table(make_images(tmp_path, classes="a"))


def test_a_test_set_is_labelled_as_a_whole_or_not_at_all(tmp_path: Path) -> None:
    for name in "1234":
        (tmp_path / f"{name}.png").touch()
    text = "image,label,split\n1,a,train\n2,b,train\n3,a,test\n4,,test\n"
    (tmp_path / "labels.csv").write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=r"test: 1 of 2 images have no label: 4\.png"):
        make_table(tmp_path, layout="csv", split_column="split", val_ratio=None)
    (tmp_path / "labels.csv").write_text(text.replace("4,,", "4,zebra,"), encoding="utf-8")
    with pytest.raises(DataError, match=r"test: classes without training images: zebra"):
        make_table(tmp_path, layout="csv", split_column="split", val_ratio=None)


@pytest.mark.parametrize(("first", "second"), [("Cat", "cat"), ("red  fox", "Red_fox"), ("01", "1")])
def test_two_spellings_of_a_class_are_refused_with_corrections(tmp_path: Path, first: str, second: str) -> None:
    for number in range(12):
        (tmp_path / f"{number}.png").touch()
    names = (first, second, "other")
    rows = "".join(f"{number},{names[min(number % 4, 2)]}\n" for number in range(11)) + f"11,{first}\n"
    (tmp_path / "labels.csv").write_text(f"image,label\n{rows}", encoding="utf-8")
    with pytest.raises(DataError, match=r"differ only in case, blanks or leading zeros: .*\(4\) and .*\(3\)") as error:
        make_table(tmp_path, layout="csv")
    command = error.value.next_step.partition(": ")[2].partition(", and add")[0]
    subprocess.run(command, shell=True, check=True, cwd=tmp_path)
    assert set(make_table(tmp_path, layout="csv", relabel="corrections.csv")["label"]) == {first, "other"}
    assert set(make_table(tmp_path, layout="csv", class_order=names)["label"]) == set(names)


def test_the_order_of_classes_may_be_in_another_form_of_unicode() -> None:
    composed, decomposed = (unicodedata.normalize(form, "Käse") for form in ("NFC", "NFD"))
    for label in (composed, decomposed):
        space = label_space(rows_of(["a", label]), (decomposed, "a"))
        assert space.names == (label, "a")


def test_letters_in_both_cases_are_different_classes(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        assert set(make_table(make_images(tmp_path, classes="aAb"))["label"]) == {"a", "A", "b"}
    assert "classes that differ only in case are different classes: " in caplog.text


def test_test_location_replaces_the_test_folder(tmp_path: Path) -> None:
    make_images(tmp_path / "data")
    for name in ("data/test/1.png", "eval/2.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    samples = make_table(tmp_path / "data", val_ratio=0.5, test_location=str(tmp_path / "eval"))
    assert samples.loc[samples["split"] == "test", "image"].tolist() == ["../eval/2.png"]


def test_training_images_in_the_test_set_are_an_error(tmp_path: Path) -> None:
    make_images(tmp_path)
    with pytest.raises(DataError, match=r"the same image in two sets: train/a/w0_a\.png"):
        make_table(tmp_path, val_ratio=0.5, test_location=str(tmp_path / "train"))


def test_unreadable_images_are_skipped_in_training_only(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    make_images(tmp_path)
    (tmp_path / "test").mkdir()
    for name in ("train/a/w0_a.png", "train/b/w1_b.png", "test/9.png"):
        (tmp_path / name).write_text("no image", encoding="utf-8")
    kept = make_table(tmp_path, val_ratio=0.5, skip_bad_images=True)
    assert len(kept) == 11 and "test/9.png" in set(kept["image"])
    assert not {"train/a/w0_a.png", "train/b/w1_b.png"} & set(kept["image"])
    assert "w0_a.png: not an image" in caplog.text
    assert len(make_table(tmp_path, val_ratio=0.5)) == 13


def test_a_written_table_is_read_back_unchanged(tmp_path: Path) -> None:
    samples = make_table(make_images(tmp_path / "data"), val_ratio=0.5)
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
    samples = make_table(tmp_path / "data", val_ratio=0.5)
    assert set(samples["image"]) == {f"{label}/{name}" for label in ("NA", "007") for name in names}
    write_table(tmp_path / "samples.csv", samples)
    assert read_samples(tmp_path / "samples.csv").equals(samples)


def test_separate_fingerprints_of_data_and_split() -> None:
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
    with pytest.raises(UsageError, match=r"--class-order: the names are not those of the data.s classes"):
        label_space(samples, ["1", "2"])


def test_sets_in_a_fixed_order() -> None:
    samples = rows_of(["a", "b", "a", "b", "a"])
    samples["split"] = ["train", "noise", "test", "blur", "val"]
    assert evaluation_sets(samples) == ["val", "test", "blur", "noise"]
    assert set_rows(samples, "blur").index.tolist() == [3] and set_rows(samples, "val").index.tolist() == [4]
    only = samples[samples["split"] == "train"]
    assert evaluation_sets(only) == ["val"]
    assert set_rows(only, "val").index.tolist() == [0]
