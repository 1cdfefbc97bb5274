"""Label corrections: all rows compare with the original labels; invalid rows are errors."""

from pathlib import Path

import pandas as pd
import pytest

from soups.core.errors import DataError
from soups.data.relabel import relabel
from soups.data.samples import declared_space, make_samples
from soups.data.settings import DataSettings
from tests.data.people import make_people
from tools.tried_cases.case import draw

PROFILE = declared_space(DataSettings(layout="profile"))


def corrected(tmp_path: Path, *rows: str, header: str = "match,factor,from,to") -> pd.DataFrame:
    if not (tmp_path / "images").exists():
        make_people(tmp_path / "images")
    (tmp_path / "fix.csv").write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    settings = DataSettings(data_location=str(tmp_path), val_ratio=0.5, relabel="fix.csv")
    return make_samples(settings).set_index("image")


def test_a_swap_is_two_rows(tmp_path: Path) -> None:
    rows = corrected(tmp_path, "000001,mask,incorrect,normal", "000001,mask,normal,incorrect")
    own = rows[rows["group"] == "000001"]
    assert own.loc["images/000001_female_Asian_45/normal.jpg", ["label", "label_before", "corrected_by"]].tolist() == [
        *("incorrect/female/middle", "normal/female/middle", "3")
    ]
    assert own.loc["images/000001_female_Asian_45/incorrect_mask.jpg", ["mask", "corrected_by"]].tolist() == [
        *("normal", "2")
    ]
    assert (rows.loc[rows["label_before"] == "", "corrected_by"] == "").all() and (
        rows["label_before"] != ""
    ).sum() == 2


def test_words_for_any_level_and_for_the_other_of_two(tmp_path: Path) -> None:
    rows = corrected(tmp_path, "000002,gender,*,other", "000003,age,*,young", "*/000004_*/mask?.jpg,mask,mask,normal")
    assert set(rows.loc[rows["group"] == "000002", "label"]) == {
        f"{m}/female/young" for m in ("mask", "incorrect", "normal")
    }
    assert set(rows.loc[rows["group"] == "000003", "age"]) == {"young"}
    assert set(rows.loc[rows["group"] == "000004", "mask"]) == {"normal", "incorrect"}
    assert (rows["corrected_by"] == "4").sum() == 5


def test_two_factors_of_one_image_and_the_whole_label(tmp_path: Path) -> None:
    rows = corrected(
        tmp_path,
        "000002,gender,male,female",
        "images/000002_male_Asian_29/normal.jpg,mask,normal,mask",
        "000003_male_Black_60/normal,,normal/male/old,mask/female/young",
    )
    both = rows.loc["images/000002_male_Asian_29/normal.jpg"]
    assert (both["label"], both["label_before"], both["corrected_by"]) == (
        "mask/female/young",
        "normal/male/young",
        "2 3",
    )
    whole = rows.loc["images/000003_male_Black_60/normal.jpg"]
    assert whole[["label", "mask", "gender", "age"]].tolist() == ["mask/female/young", "mask", "female", "young"]


def test_labels_without_factors_are_corrected(tmp_path: Path) -> None:
    samples = pd.DataFrame(
        {"image": ["a/1.png", "b/2.png"], "label": ["a", "b"], "group": ["a/1.png", "b/2.png"], "split": ""}, dtype=str
    )
    (tmp_path / "fix.csv").write_text(
        "to,match,factor,from,doubt\nother,1.png,label,*,0.9\n".replace("1.png", "a/1.png")
    )
    result = relabel(samples, tmp_path / "fix.csv", (), ("a", "b"))
    assert result["label"].tolist() == ["b", "b"] and result["label_before"].tolist() == ["a", ""]
    assert samples["label"].tolist() == ["a", "b"]


def test_unlabelled_images_are_not_corrected(tmp_path: Path) -> None:
    (tmp_path / "eval").mkdir()
    (tmp_path / "eval" / "x.jpg").touch()
    rows = corrected(tmp_path, "*,gender,male,female")
    assert set(rows.loc[rows["split"] != "test", "gender"]) == {"female"}
    assert rows.loc["eval/x.jpg", ["label", "corrected_by"]].tolist() == ["", ""]


def test_what_was_changed_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    images = [f"{name}/{number}.png" for name in "ab" for number in range(4)]
    samples = pd.DataFrame({"image": images, "label": [*"aaaabbbb"], "group": images, "split": ""}, dtype=str)
    (tmp_path / "fix.csv").write_text("match,factor,from,to\na/[012].png,,a,b\nb\\3.png,,*,a\nb/2.png,,*,b\n")
    with caplog.at_level("INFO"):
        relabel(samples, tmp_path / "fix.csv", (), ("a", "b"))
    assert f"--relabel {tmp_path / 'fix.csv'}: changed the labels of 4 images: 3 a → b, 1 b → a" in caplog.text


def test_all_rows_without_an_image_are_named(tmp_path: Path) -> None:
    samples = pd.DataFrame({"image": ["a/1.png"], "label": ["a"], "group": ["a/1.png"], "split": ""}, dtype=str)
    (tmp_path / "fix.csv").write_text("match,factor,from,to\nx.png,,a,b\na/1.png,,a,b\ny.png,,a,b\nz.png,,*,b\n")
    with pytest.raises(DataError, match=r"row 2 \(x\.png, .* no image, as do 2 more rows: 4 \(y\.png\), 5 \(z\.png\)"):
        relabel(samples, tmp_path / "fix.csv", (), ("a", "b"))


def test_the_split_is_that_without_corrections(tmp_path: Path) -> None:
    people = [f"{n:03}_{('male', 'female')[n % 2]}_x_{20 + 5 * (n % 9)}" for n in range(40)]
    make_people(tmp_path / "images", people)
    rows = corrected(tmp_path, "00*,gender,*,other", "01?_*,age,*,old")
    settings = DataSettings(data_location=str(tmp_path), val_ratio=0.5)
    assert rows["split"].tolist() == make_samples(settings)["split"].tolist()
    assert (rows["corrected_by"] != "").sum() > 50


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (["999999,mask,*,mask"], r"row 2 \(999999, mask: \* → mask\): matches no image(?s:.*)0 labelled images"),
        (["000001,gender,male,female"], r"row 2(?s:.*)7 labelled images match '000001', none of them is male"),
        (["normal,mask,*,mask"], "row 2(?s:.*)matches no image"),
        (
            ["000001,age,*,young", "*,age,*,old"],
            r"rows 2 and 3: both correct age of images/000001(?s:.*)one row for each",
        ),
        (["000001,age,*,young", "000001,label,*,mask/male/old"], "rows 2 and 3: both correct label of"),
        (["000001,label,*,mask/male/old", "000001,age,*,young"], "rows 2 and 3: both correct age of"),
        (["000001,ages,*,young"], r"unknown factor 'ages'(?s:.*)mask, gender, age, label"),
        (["000001,age,*,other"], r"`to` is 'other'(?s:.*)young, middle, old \(other needs two levels\)"),
        (["000001,age,elderly,old"], r"`from` is 'elderly'(?s:.*)young, middle, old, or \*"),
        (["000001,gender,*,man"], r"`to` is 'man'(?s:.*)male, female, or other"),
        (["000001,age,old,old"], "changes nothing"),
        ([",age,old,young"], "row 2: `match` is empty"),
    ],
)
def test_invalid_rows_are_errors(tmp_path: Path, rows: list[str], words: str) -> None:
    with pytest.raises(DataError, match=words) as raised:
        corrected(tmp_path, *rows)
    assert "fix.csv" in str(raised.value)


def test_an_unreadable_samples_table_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"fix\.csv: no column 'to'"):
        corrected(tmp_path, "a,b,c", header="match,factor,from")
    settings = DataSettings(data_location=str(tmp_path), relabel="gone.csv")
    with pytest.raises(DataError, match=r"gone\.csv: no such file"):
        make_samples(settings)
    assert PROFILE is not None and len(PROFILE) == 18


def test_spaces_around_classes_of_folders_are_kept(tmp_path: Path) -> None:
    for name in ("cat ", "dog"):
        for number in range(4):
            draw(tmp_path / "train" / name / f"{number}.png", number)
    (tmp_path / "fix.csv").write_text("match,factor,from,to\ntrain/cat /0.png,label,cat ,dog\n")
    rows = make_samples(DataSettings(data_location=str(tmp_path), relabel="fix.csv")).set_index("image")
    assert rows.loc["train/cat /0.png", "label"] == "dog"
