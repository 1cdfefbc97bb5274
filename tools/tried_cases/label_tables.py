"""Tables of labels: separators, encodings, columns, spellings of classes."""

import unicodedata
from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd

from tools.tried_cases.case import Case, draw

_CSV = ("finetune --data-location data --layout csv {TINY}",)
_AUTO = ("finetune --data-location data {TINY}",)
_PAIRS = [(f"{number:03d}.png", ("cat", "dog")[number % 2]) for number in range(20)]
_NAMES = tuple(name for name, _ in _PAIRS)


def _make(
    rows: Sequence[Sequence[str]],
    header: Sequence[str] = ("image", "label"),
    *,
    separator: str = ",",
    encoding: str = "utf-8",
    names: Sequence[str] = _NAMES,
    file: str = "labels.csv",
    end: str = "\n",
) -> Callable[[Path], None]:
    """Return a function that draws `data/images/<name>` and writes a table of labels beside the folder."""

    def make(folder: Path) -> None:
        for number, name in enumerate(names):
            draw(folder / "data" / "images" / name, number % 2, seed=number)
        lines = "".join(separator.join(row) + end for row in [header, *rows])
        (folder / "data" / file).write_bytes(lines.encode(encoding))

    return make


def _classes(*expected: str) -> Callable[[Path], None]:
    """Return a check of the classes of the run's training images, and that each image has that of its row."""

    def check(folder: Path) -> None:
        samples = pd.read_csv(next(folder.glob("runs/*/samples.csv")), dtype=str, keep_default_na=False)
        rows = samples[samples["split"] != "test"]
        assert tuple(sorted(set(rows["label"]))) == tuple(sorted(expected)), set(rows["label"])
        for parity in (0, 1) if len(expected) == 2 else ():
            numbers = rows["image"].str.extract(r"(\d+)\.png$")[0].astype(int)
            assert rows.loc[numbers % 2 == parity, "label"].nunique() == 1

    return check


def _make_test_table(folder: Path) -> None:
    for number in range(26):
        part = "train" if number < 20 else "test"
        draw(folder / "data" / part / f"{number:03d}.png", number % 2, seed=number)
    labels = "".join(f"{number:03d},{('cat', 'dog')[number % 2]}\n" for number in range(20))
    template = "".join(f"{number:03d},cat\n" for number in range(20, 26))
    (folder / "data" / "sample_submission.csv").write_text("id,breed\n" + template)
    (folder / "data" / "train.csv").write_text("id,breed\n" + labels)
    (folder / "data" / "test.csv").write_text("id\n" + "".join(f"{number:03d}\n" for number in range(20, 26)))


def _check_template(folder: Path) -> None:
    answers = pd.read_csv(folder / "answers.csv", dtype=str)
    assert list(answers.columns) == ["id", "breed"]
    assert list(answers["id"]) == [f"{number:03d}" for number in range(20, 26)]
    assert set(answers["breed"]) <= {"cat", "dog"}


def _make_corrected(folder: Path) -> None:
    _make(_PAIRS)(folder)
    rows = "".join(f"images/{number:03d}.png,,cat,dog\n" for number in (0, 2, 4))
    (folder / "data" / "fix.csv").write_text("match,factor,from,to\n" + rows)
    (folder / "data" / "wrong.csv").write_text("match,factor,from,to\nx.png,,*,dog\ny.png,,*,dog\n")


def _make_disagreeing(folder: Path) -> None:
    for number in range(8):
        draw(folder / "data" / ("left", "right")[number % 2] / f"{number}.png", number % 2, seed=number)
    rows = "".join(f"{number},{('cat', 'dog')[number // 4]}\n" for number in range(8))
    (folder / "data" / "train.csv").write_text("image,label\n" + rows)


_NUMBERED = [(str(number), label) for number, (_, label) in enumerate(_PAIRS)]
_DECOMPOSED = [unicodedata.normalize("NFD", f"Bäume_{number:03d}.png") for number in range(20)]

CASES: list[Case] = [
    Case(
        "semicolons",
        _make(_PAIRS, separator=";"),
        _CSV,
        says=("separated by semicolons",),
        check=_classes("cat", "dog"),
    ),
    Case("tabs in UTF-16", _make(_PAIRS, separator="\t", encoding="utf-16"), _CSV, check=_classes("cat", "dog")),
    Case(
        "Windows-1252",
        _make([(name, label.replace("cat", "Käfer")) for name, label in _PAIRS], encoding="cp1252"),
        _CSV,
        says=("read as Windows-1252",),
        check=_classes("Käfer", "dog"),
    ),
    Case(
        "spaces in the header and the cells",
        _make([(name, f" {label} ") for name, label in _PAIRS], ("image", " label"), end="\r\n"),
        _CSV,
        check=_classes("cat", "dog"),
    ),
    Case(
        "backslashes",
        _make([(f"images\\{name}", label) for name, label in _PAIRS]),
        _CSV,
        check=_classes("cat", "dog"),
    ),
    Case(
        "names decomposed on the disk and composed in the table",
        _make([(f"Bäume_{name}", label) for name, label in _PAIRS], names=_DECOMPOSED),
        _CSV,
        check=_classes("cat", "dog"),
    ),
    Case(
        "lost leading zeros",
        _make(_NUMBERED),
        _CSV,
        says=("20 ids are matched but for leading zeros", "'0' is images/000.png"),
        check=_classes("cat", "dog"),
    ),
    Case(
        "ids and classes written as decimals",
        _make([(f"{name}.0", "0.0" if label == "cat" else "1.0") for name, label in _NUMBERED]),
        _CSV,
        says=("0.0 is the class 0", "'0.0' is images/000.png"),
        check=_classes("0", "1"),
    ),
    Case(
        "an index column of pandas",
        _make([(str(row), *pair) for row, pair in enumerate(_PAIRS)], ("", "image", "label")),
        _CSV,
        says=("the first column has no name and counts the rows",),
        check=_classes("cat", "dog"),
    ),
    Case(
        "columns under other names, with folds",
        _make([(name, label, str(row % 5)) for row, (name, label) in enumerate(_PAIRS)], ("id", "class", "fold")),
        _CSV,
        says=("the images are those of column 'id'", "the classes are those of column 'class'"),
        check=_classes("cat", "dog"),
    ),
    Case(
        "two columns of classes",
        _make([(name, str(row % 3), label) for row, (name, label) in enumerate(_PAIRS)], ("id", "target", "label")),
        _CSV,
        3,
        says=("several columns may hold the class", "set --label-column label, or --label-column target"),
    ),
    Case(
        "a column for each class",
        _make(
            [(name, *("1.0" if row % 3 == k else "0.0" for k in range(3))) for row, (name, _) in enumerate(_PAIRS)],
            ("image", "MEL", "NV", "BCC"),
        ),
        _CSV,
        says=("the classes are the columns MEL, NV, BCC, with a 1 in one of them",),
        check=_classes("BCC", "MEL", "NV"),
    ),
    Case(
        "a column for each class, several in a row",
        _make([(name, "1", str(row % 2)) for row, (name, _) in enumerate(_PAIRS)], ("image", "cat", "dog")),
        _CSV,
        3,
        says=("labels.csv, row 3: several classes among the columns of 0 and 1", "1 in cat, dog"),
    ),
    Case(
        "several classes in a cell",
        _make([(name, ("scab", "rust", "scab rust")[row % 3]) for row, (name, _) in enumerate(_PAIRS)]),
        _CSV,
        3,
        says=("labels.csv, row 4: several classes in one cell", "found: 'scab rust'", "--class-order"),
    ),
    Case(
        "several classes in a cell, separated by a bar",
        _make([(name, ("0", "1", "0|1")[row % 3]) for row, (name, _) in enumerate(_PAIRS)]),
        _CSV,
        3,
        says=("row 4: several classes in one cell", "found: '0|1'"),
    ),
    Case(
        "names of classes with commas",
        _make([(name, '"Pepper, bell"' if label == "cat" else "N/A") for name, label in _PAIRS]),
        _CSV,
        check=_classes("N/A", "Pepper, bell"),
    ),
    Case(
        "classes that differ in case",
        _make([(name, label.title() if row % 3 == 0 else label) for row, (name, label) in enumerate(_PAIRS)]),
        _CSV,
        3,
        says=("classes that differ only in case", "'cat' (6) and 'Cat' (4)", "--relabel corrections.csv"),
    ),
    Case(
        "train.csv and test.csv beside folders",
        _make_test_table,
        _AUTO,
        says=("layout csv: the classes are read from data/train.csv", "data/test.csv: lists the test images"),
        check=_classes("cat", "dog"),
    ),
    Case(
        "a template beside train.csv and test.csv",
        _make_test_table,
        (*_AUTO, "inference --output answers.csv"),
        check=_check_template,
    ),
    Case(
        "corrections and a limit",
        _make_corrected,
        ("finetune --data-location data --relabel fix.csv --limit 12 --layout csv {TINY}",),
        says=("--limit 12: uses train 12 of 16 (6 cat, 6 dog)", "changed the labels of 3 images: 3 cat → dog"),
    ),
    Case(
        "corrections of images that are not there",
        _make_corrected,
        ("finetune --data-location data --relabel wrong.csv --layout csv {TINY}",),
        3,
        says=("wrong.csv, row 2 (x.png, label: * → dog): matches no image, as do 1 more rows: 3 (y.png)",),
    ),
    Case(
        "train.csv beside the pictures",
        _make(_PAIRS, file="train.csv"),
        _AUTO,
        says=("layout csv: the classes are read from data/train.csv",),
        check=_classes("cat", "dog"),
    ),
    Case(
        "a table and folders that name different classes",
        _make_disagreeing,
        _AUTO,
        3,
        says=("the folders and train.csv name different classes", "set --labels train.csv, or --layout folder"),
    ),
]
