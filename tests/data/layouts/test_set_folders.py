"""Which folders are sets and which are classes."""

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
    assert "not used, because it is no set: extra" in caplog.text
    caplog.clear()
    _splits(_touch(tmp_path / "usual", "train/a/0.png test/a/1.png"))
    assert caplog.text == ""
