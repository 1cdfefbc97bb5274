"""The group of each image: from a pattern, a table, the layout, or its own path."""

from pathlib import Path

import pytest

from soups.core.errors import DataError, UsageError
from tests.data.data_sets import make_images, make_table


def test_an_image_without_a_group_is_a_group_by_itself(tmp_path: Path) -> None:
    samples = make_table(make_images(tmp_path), val_ratio=0.5)
    assert (samples["group"] == samples["image"]).all()
    assert list(samples.columns) == ["image", "label", "group", "split"]
    assert samples.groupby(["split", "label"]).size().to_dict() == {
        ("train", "a"): 3, ("train", "b"): 3, ("val", "a"): 3, ("val", "b"): 3,
    }  # fmt: skip


@pytest.mark.parametrize("pattern", [r"(w\d+)_", r"w\d+"])
def test_groups_from_a_pattern_stay_whole(tmp_path: Path, pattern: str) -> None:
    samples = make_table(make_images(tmp_path), val_ratio=0.5, group_pattern=pattern)
    assert set(samples["group"]) == {f"w{group}" for group in range(6)}
    assert (samples.groupby("group")["split"].nunique() == 1).all()


def test_groups_from_a_table_by_path_or_name(tmp_path: Path) -> None:
    make_images(tmp_path, groups=2)
    text = "image,group\ntrain/a/w0_a.png,p\nw0_b,p\nb/w1_b.png,q\nw1_a.png,q\n"
    (tmp_path / "groups.csv").write_text(text, encoding="utf-8")
    samples = make_table(tmp_path, val_ratio=0.5, groups="groups.csv")
    assert list(samples["group"]) == ["p", "q", "p", "q"]
    (tmp_path / "groups.csv").write_text(text.replace("w1_a.png,q\n", ""), encoding="utf-8")
    with pytest.raises(DataError, match=r"--groups: no group for 1 images: train/a/w1_a\.png"):
        make_table(tmp_path, val_ratio=0.5, groups="groups.csv")
    (tmp_path / "groups.csv").write_text("image,group\nw0_a,p\nw0_b,\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"groups\.csv, row 3: column 'group' is empty"):
        make_table(tmp_path, groups="groups.csv")
    (tmp_path / "groups.csv").write_text("image,group\nw0_a,p\nw0_a,q\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"groups\.csv, rows 2 and 3: the same image twice"):
        make_table(tmp_path, groups="groups.csv")


def test_ids_of_groups_match_one_image_each(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("train/a/1.png", "train/b/1.png", "train/a/2.png", "train/b/3.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "groups.csv").write_text("id,group\n1,p\n2,p\n3,q\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"groups\.csv, row 2: '1' matches 2 images"):
        make_table(tmp_path, val_ratio=0.5, groups="groups.csv")
    text = "id,group\ntrain\\a\\1.png,p\nb/1,p\n2,q\n3,q\n9,r\n"
    (tmp_path / "groups.csv").write_text(text, encoding="utf-8")
    with caplog.at_level("INFO"):
        samples = make_table(tmp_path, val_ratio=0.5, groups="groups.csv")
    assert list(samples["group"]) == ["p", "q", "p", "q"]
    assert "groups.csv: 1 rows name no image of this data: 9" in caplog.text


def test_invalid_groups_are_errors(tmp_path: Path) -> None:
    make_images(tmp_path)
    with pytest.raises(UsageError, match=r"--group-pattern '\(': not a regular expression"):
        make_table(tmp_path, group_pattern="(")
    with pytest.raises(DataError, match=r"--group-pattern: no group for 10 images: train/a/w0_a"):
        make_table(tmp_path, group_pattern="w5")
    with pytest.raises(UsageError, match=r"--groups and --group-pattern both name the groups"):
        make_table(tmp_path, group_pattern="w5", groups="x.csv")
    with pytest.raises(DataError, match=r"^1 group for(.|\n)*at least 3 groups for --val-ratio 0\.2"):
        make_table(tmp_path, group_pattern="(train)")


def test_images_without_a_match_of_the_pattern_are_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    make_images(tmp_path)
    (tmp_path / "test").mkdir()
    (tmp_path / "test" / "9.png").touch()
    samples = make_table(tmp_path, val_ratio=0.5, group_pattern=r"w\d")
    assert samples.loc[samples["split"] == "test", "group"].tolist() == ["test/9.png"]
    assert "1 test images; each is a group by itself" in caplog.text


def test_predefined_sets_that_share_a_group_are_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    make_images(tmp_path)
    (tmp_path / "val" / "a").mkdir(parents=True)
    (tmp_path / "val" / "a" / "w3_x.png").touch()
    samples = make_table(tmp_path, group_pattern=r"w\d")
    assert (samples["split"] == "val").sum() == 1
    assert "groups both in train and in val, so that scores are too high: w3" in caplog.text


def test_groups_of_a_csv_data_set(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in "1234":
        (tmp_path / f"{name}.png").touch()
    text = "image,label,who\n1,a,p\n2,b,p\n3,a,q\n4,b,q\n"
    (tmp_path / "labels.csv").write_text(text, encoding="utf-8")
    (tmp_path / "groups.csv").write_text("image,team\n1,x\n2,y\n3,y\n4,x\n", encoding="utf-8")
    own = make_table(tmp_path, layout="csv", val_ratio=0.5, group_column="who")
    assert list(own["group"]) == ["p", "p", "q", "q"] and own["split"].nunique() == 2
    other = make_table(tmp_path, layout="csv", val_ratio=0.5, group_column="team", groups="groups.csv")
    assert list(other["group"]) == ["x", "y", "y", "x"]
    with pytest.raises(UsageError, match=r"--group-pattern and --group-column both name the groups"):
        make_table(tmp_path, layout="csv", group_column="who", group_pattern="x")
    (tmp_path / "labels.csv").write_text(text.replace("3,a,q", "3,a,"), encoding="utf-8")
    with pytest.raises(DataError, match=r"labels\.csv, row 4: column 'who' is empty"):
        make_table(tmp_path, layout="csv", group_column="who")
    assert not caplog.text
