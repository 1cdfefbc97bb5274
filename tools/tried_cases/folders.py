"""Folders of images: which are sets, which are classes, and what is left out."""

import unicodedata
from collections.abc import Callable
from pathlib import Path

import pandas as pd

from tools.tried_cases.case import Case, draw, draw_classes

_FINETUNE = ("finetune --data-location data {TINY}",)


def _make(*folders: str, file: str = "", content: bytes = b"", ending: str = ".png") -> Callable[[Path], None]:
    """Return a function that draws folders in `data/`: `Training/cat:10` is ten images; no two names are equal."""

    def make(folder: Path) -> None:
        start, kinds = 0, sorted({item.rpartition(":")[0].rpartition("/")[2] for item in folders})
        for item in folders:
            name, _, count = item.rpartition(":")
            label = name.rpartition("/")[2]
            for number in range(start, start + int(count)):
                draw(folder / "data" / name / f"{number:03d}{ending}", kinds.index(label), seed=number)
            start += int(count)
        if file:
            (folder / "data" / file).parent.mkdir(parents=True, exist_ok=True)
            (folder / "data" / file).write_bytes(content)

    return make


def _has(**sets: str) -> Callable[[Path], None]:
    """Return a check that the run has these sets: `train="cat,dog"`, with "" for images without labels."""

    def check(folder: Path) -> None:
        samples = pd.read_csv(next(folder.glob("runs/*/samples.csv")), keep_default_na=False)
        found = {str(name): ",".join(sorted(set(rows["label"]))) for name, rows in samples.groupby("split")}
        assert found == {"val": sets["train"]} | sets, found

    return check


def _check_predictions(folder: Path) -> None:
    assert len(pd.read_csv(folder / "one.csv")) == 1
    assert len(pd.read_csv(folder / "new.csv")) == 6


def _make_windows(folder: Path) -> None:
    for number in range(20):
        draw(folder / "picture.png", number % 2, seed=number)
        (folder / "data").mkdir(exist_ok=True)
        (folder / "picture.png").rename(folder / "data" / f"train\\{('cat', 'dog')[number % 2]}\\{number}.png")


def _make_two_forms(folder: Path) -> None:
    names = {"train": unicodedata.normalize("NFD", "Käse"), "val": unicodedata.normalize("NFC", "Käse")}
    for start, (part, name) in enumerate(names.items()):
        draw_classes(folder / "data" / part, (name, "dog"), 8, start=100 * start)


def _make_without_endings(folder: Path) -> None:
    draw_classes(folder / "data", ("cat", "dog"))
    for path in list((folder / "data").glob("*/*.png")):
        path.rename(path.with_suffix(""))


def _make_current_folder(folder: Path) -> None:
    draw_classes(folder, ("cat", "dog", "eel"))
    draw_classes(folder / "runs" / "old", ("figures",), 5, start=50)
    draw_classes(folder / "wandb", ("media",), 5, start=60)


CASES: list[Case] = [
    Case(
        "Training and Testing",
        _make("Training/glioma:10", "Training/notumor:10", "Testing/glioma:3", "Testing/notumor:3"),
        _FINETUNE,
        says=("Testing is the set test, Training is the set train",),
        check=_has(train="glioma,notumor", test="glioma,notumor"),
    ),
    Case(
        "doubled folders with another word before",
        _make("seg_train/seg_train/forest:10", "seg_train/seg_train/sea:10", "seg_test/seg_test/sea:3"),
        _FINETUNE,
        check=_has(train="forest,sea", test="sea"),
    ),
    Case(
        "train_images and test images without labels",
        _make("train_images/blast:10", "train_images/normal:10", "test_images:6"),
        _FINETUNE,
        check=_has(train="blast,normal", test=""),
    ),
    Case(
        "valid beside train and test",
        _make("train/cat:8", "train/dog:8", "valid/cat:3", "valid/dog:3", "test/cat:3"),
        _FINETUNE,
        check=_has(train="cat,dog", test="cat"),
    ),
    Case(
        "one wrapping folder",
        _make("photos/train/cat:10", "photos/train/dog:10", "photos/test/cat:3"),
        _FINETUNE,
        says=("its only folder is photos, which is read",),
        check=_has(train="cat,dog", test="cat"),
    ),
    Case(
        "the working folder with runs and tools in it",
        _make_current_folder,
        ("finetune --data-location . --name new {TINY}",),
        check=_has(train="cat,dog,eel"),
    ),
    Case(
        "sets within the classes",
        _make("cat/train:10", "cat/test:3", "dog/train:10", "dog/test:3"),
        _FINETUNE,
        says=("the sets test, train are folders within the classes",),
        check=_has(train="cat,dog", test="cat,dog"),
    ),
    Case(
        "one class in two forms of Unicode",
        _make_two_forms,
        _FINETUNE,
        check=_has(train=",".join(sorted(("Käse", "dog")))),
    ),
    Case(
        "predictions for another folder without classes, and for one image",
        _make("train/cat:10", "train/dog:10", "new/monday:3", "new/tuesday:3"),
        (
            *_FINETUNE,
            "inference --test-location data/new/monday/020.png --output one.csv",
            "inference --test-location data/new --output new.csv",
        ),
        says=("data/new: no folder in it is a class, so its 6 images have no labels: monday, tuesday",),
        check=_check_predictions,
    ),
    Case(
        "names in JFIF",
        _make("train/cat:10", "train/dog:10", ending=".jfif"),
        _FINETUNE,
        check=_has(train="cat,dog"),
    ),
    Case("images without endings", _make_without_endings, _FINETUNE, check=_has(train="cat,dog")),
    Case(
        "images in a format that is not read",
        _make("train/cat:10", "train/dog:10", file="train/dog/x.dng", content=b"II*\0"),
        _FINETUNE,
        says=("left out 1 files that are no images that can be read: 1 .dng (x.dng)", "magick mogrify"),
        check=_has(train="cat,dog"),
    ),
    Case(
        "names of Windows in an archive",
        _make_windows,
        _FINETUNE,
        3,
        says=("20 images have paths of Windows as their names", "make the folders: bash -c"),
    ),
    Case(
        "sets under other names",
        _make("trainA:3", "trainB:3", "testA:3", "testB:3"),
        _FINETUNE,
        3,
        says=("its folders look like sets, not like classes", "found: testA, testB, trainA, trainB"),
    ),
    Case(
        "parts of one data set",
        _make("fold1/cat:3", "fold1/dog:3", "fold2/cat:3", "fold2/dog:3"),
        _FINETUNE,
        3,
        says=("parts of one data set, not like classes", "join them: --data-location data/fold1 data/fold2"),
    ),
    Case(
        "two data sets in one folder",
        _make("photos/train/cat:3", "photos/test/cat:3", "masks/train/cat:3", "masks/test/cat:3"),
        _FINETUNE,
        3,
        says=("folders hold sets of their own: masks, photos", "next: --data-location data/masks"),
    ),
    Case(
        "figures beside the classes",
        _make("cat:3", "dog:3", "figures:3"),
        _FINETUNE,
        3,
        says=("folders that may be no classes hold images: figures", "--class-order"),
    ),
    Case(
        "an archive instead of a folder",
        _make("cat:3", file="photos.tar.gz", content=b"x"),
        ("finetune --data-location data/photos.tar.gz {TINY}",),
        3,
        says=("is not a folder", "mkdir -p data/photos && tar -xf data/photos.tar.gz -C data/photos"),
    ),
    Case(
        "classes of the test set in another case",
        _make("train/Cat:6", "train/Dog:6", "test/cat:3", "test/Dog:3"),
        _FINETUNE,
        3,
        says=("classes without training images: cat", "next: write cat as Cat"),
    ),
]
