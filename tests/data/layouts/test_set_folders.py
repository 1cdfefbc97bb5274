"""Which folders are sets and which are classes."""

import subprocess
import unicodedata
from pathlib import Path

import pytest

from soups.core.errors import DataError
from soups.data.layouts.folders import folder_classes, folder_samples
from soups.data.layouts.set_folders import set_of
from soups.data.settings import DataSettings


def _touch(root: Path, text: str) -> Path:
    for name in text.split():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def _splits(root: Path) -> dict[str, list[str]]:
    """Split → its sorted `label:image`."""
    found: dict[str, list[str]] = {}
    for row in folder_samples(DataSettings(data_location=str(root))).itertuples():
        found.setdefault(row.split, []).append(f"{row.label}:{row.image}")
    return found


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        *[(name, "train") for name in ("train", "Train", "TRAINING", "trn", "train_images", "seg_train", "train-set")],
        *[(name, "val") for name in ("val", "valid", "Validation", "dev", "val_images")],
        *[(name, "train") for name in ("train1", "train_512", "TrainImages", "trainset", "train (1)", "train-224x224")],
        *[(name, "val") for name in ("val2017", "validset")],
        *[(name, None) for name in ("trainA", "train_dog", "1", "x1", "")],
        *[(name, "test") for name in ("test", "Testing", "eval", "test_images", "seg_test", "test.set")],
        ("shifts", "shifts"),
        *[(name, None) for name in ("cat", "trainer", "train_cat", "train_test", "images", "strain", "bullet train")],
    ],
)
def test_the_set_of_a_folder_s_name(name: str, expected: str | None) -> None:
    assert set_of(name) == expected


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (
            "Training/cat/0.png Training/dog/0.png Testing/cat/0.png",
            {"": ["cat:Training/cat/0.png", "dog:Training/dog/0.png"], "test": ["cat:Testing/cat/0.png"]},
        ),
        (
            "seg_train/seg_train/sea/0.png seg_test/seg_test/sea/0.png",
            {"": ["sea:seg_train/seg_train/sea/0.png"], "test": ["sea:seg_test/seg_test/sea/0.png"]},
        ),
        (
            "train_images/a/0.png test_images/1.png test_images/2.png",
            {"": ["a:train_images/a/0.png"], "test": [":test_images/1.png", ":test_images/2.png"]},
        ),
        (
            "train/a/0.png valid/a/1.png test/a/2.png",
            {"train": ["a:train/a/0.png"], "val": ["a:valid/a/1.png"], "test": ["a:test/a/2.png"]},
        ),
        ("train/train/a/0.png train/train/b/0.png", {"": ["a:train/train/a/0.png", "b:train/train/b/0.png"]}),
        (
            "photos/train/a/0.png photos/test/a/1.png",
            {"": ["a:photos/train/a/0.png"], "test": ["a:photos/test/a/1.png"]},
        ),
        ("photos/photos/a/0.png photos/photos/b/0.png", {"": ["a:photos/photos/a/0.png", "b:photos/photos/b/0.png"]}),
        ("bus/0.png plane/0.png train/0.png", {"": ["bus:bus/0.png", "plane:plane/0.png", "train:train/0.png"]}),
        (
            "cat/train/0.png dog/train/1.png cat/val/2.png",
            {"train": ["cat:cat/train/0.png", "dog:dog/train/1.png"], "val": ["cat:cat/val/2.png"]},
        ),
        (
            "x/y/z/train/a/0.png x/y/z/train/b/1.png",
            {"": ["a:x/y/z/train/a/0.png", "b:x/y/z/train/b/1.png"]},
        ),
        (
            "train/images/a/0.png train/images/b/1.png test/images/2.png",
            {"": ["a:train/images/a/0.png", "b:train/images/b/1.png"], "test": [":test/images/2.png"]},
        ),
        (
            "train/a/0.png train/b/1.png train/runs/2.png train/a/cache/3.png test/unknown/4.png",
            {"": ["a:train/a/0.png", "b:train/b/1.png"], "test": [":test/unknown/4.png"]},
        ),
        ("a/0.png b/1.png env/pyvenv.cfg env/2.png", {"": ["a:a/0.png", "b:b/1.png"]}),
        (
            "steam_train/0.png bullet_train/1.png",
            {"": ["bullet_train:bullet_train/1.png", "steam_train:steam_train/0.png"]},
        ),
        ("dev/0.png prod/0.png", {"": ["dev:dev/0.png", "prod:prod/0.png"]}),
        ("a/0.png b/0.png runs/old/figures/1.png wandb/x/2.png", {"": ["a:a/0.png", "b:b/0.png"]}),
        ("a/0.png b/0.png mine/digits/samples.csv mine/digits/figures/1.png", {"": ["a:a/0.png", "b:b/0.png"]}),
    ],
)
def test_sets_and_classes_are_told_apart(tmp_path: Path, files: str, expected: dict[str, list[str]]) -> None:
    root = _touch(tmp_path, files)
    assert _splits(root) == expected
    labels = {image.split(":")[0] for split in ("", "train") for image in expected.get(split, ())}
    assert folder_classes(str(root)) == labels


@pytest.mark.parametrize(
    ("files", "words"),
    [
        (
            "train/a/0.png training/a/1.png",
            r"several folders may be the set train: train, training(?s:.*)expected: one",
        ),
        ("cat/0.png dog/0.png test/0.png", r"has test but no train(?s:.*)found:    cat, dog, test(?s:.*)if test is a"),
        ("val/a/0.png test/a/0.png", r"has val, test but no train"),
        ("train/0.png test/1.png", r"train: no class folders in it(?s:.*)--layout csv"),
    ],
)
def test_two_readings_are_refused_with_the_next_step(tmp_path: Path, files: str, words: str) -> None:
    with pytest.raises(DataError, match=words):
        _splits(_touch(tmp_path, files))


def test_what_was_decided_and_what_is_not_used_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    _splits(_touch(tmp_path, "data/Training/a/0.png data/valid/a/1.png data/extra/a/2.png"))
    assert "its only folder is data, which is read" in caplog.text
    assert "Training is the set train, valid is the set val" in caplog.text
    assert "folders that are no set are not used: extra" in caplog.text
    caplog.clear()
    _splits(_touch(tmp_path / "usual", "train/a/0.png test/a/1.png"))
    assert caplog.text == ""


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ("trainA/0.png testA/1.png", r"look like sets, not like classes(?s:.*)found: +testA, trainA"),
        (
            "fold0/a/0.png fold0/b/0.png fold1/a/0.png",
            r"parts of one data set(?s:.*)--data-location \S+/fold0 \S+/fold1",
        ),
        ("x/train/a/0.png x/train/b/0.png y/0.png", r"hold sets of their own: x(?s:.*)--data-location \S+/x$"),
        ("a/0.png b/1.png outputs/2.png", r"may be no classes hold images: outputs(?s:.*)--class-order"),
        ("train/photos/a/0.png train/photos/b/0.png", ""),
        ("train/x/a/0.png train/x/b/0.png", r"only the class x(?s:.*)folders in x: a, b(?s:.*)pass \S+/train/x$"),
        ("a/0.png", r"only the class a(?s:.*)images only in a"),
        (
            "a/0.png b/x.heic c/y.psd",
            r"without images: b, c(?s:.*)c: 1 \.psd \(y\.psd\)(?s:.*)mogrify -format png \*\.psd",
        ),
        ("photos.zip", r"archives that are not unpacked(?s:.*)unzip -q \S+/photos\.zip -d \S+/photos$"),
        (
            "train/a/0.png train/b/0.png test/0.png test/x/1.png",
            r"1 images beside folders(?s:.*)--test-location \S+/test/x$",
        ),
        ("train/A/0.png train/b/0.png test/a/1.png", r"without training images: a(?s:.*)write a as A"),
    ],
)
def test_what_fits_no_reading_names_the_next_step(tmp_path: Path, files: str, message: str) -> None:
    root = _touch(tmp_path, files)
    if not message:
        assert _splits(root)
        return
    with pytest.raises(DataError, match=message):
        _splits(root)


def test_folders_without_images_beside_classes_are_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = _touch(tmp_path, "a/0.png b/1.png notes/x.txt")
    assert _splits(root) == {"": ["a:a/0.png", "b:b/1.png"]}
    assert "folders without images are not used: notes" in caplog.text


def test_folders_of_a_project_are_classes_if_the_user_says_so(tmp_path: Path) -> None:
    root = _touch(tmp_path, "a/0.png outputs/2.png")
    samples = folder_samples(DataSettings(data_location=str(root), class_order=("a", "outputs")))
    assert set(samples["label"]) == {"a", "outputs"}


def test_names_of_windows_are_mended_by_the_command(tmp_path: Path) -> None:
    root = tmp_path / "my data"
    root.mkdir()
    for name in ("train\\cat\\0.png", "train\\dog\\a b.png", "train\\dog\\-1.png"):
        (root / name).touch()
    with pytest.raises(
        DataError, match=r"3 images have paths of Windows as their names, such as train\\cat\\0\.png"
    ) as error:
        _splits(root)
    command = error.value.next_step.partition(": ")[2]
    subprocess.run(command, shell=True, check=True)
    assert _splits(root) == {"": ["cat:train/cat/0.png", "dog:train/dog/-1.png", "dog:train/dog/a b.png"]}


def test_a_link_to_a_folder_above_is_no_class(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = _touch(tmp_path, "a/0.png b/1.png")
    (root / "again").symlink_to(root)
    assert _splits(root) == {"": ["a:a/0.png", "b:b/1.png"]}
    assert "links to a folder above are not followed: again" in caplog.text


def test_names_in_two_forms_of_unicode_are_one_class(tmp_path: Path) -> None:
    composed, decomposed = (unicodedata.normalize(form, "Käse") for form in ("NFC", "NFD"))
    samples = folder_samples(
        DataSettings(data_location=str(_touch(tmp_path, f"{composed}/0.png {decomposed}/1.png b/2.png")))
    )
    assert set(samples["label"]) == {"b", composed}
    assert f"{decomposed}/1.png" in set(samples["image"])
