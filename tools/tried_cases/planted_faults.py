"""Faults that are planted into labels, splits, corrections and predictions; each message names the line."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from PIL import Image

from tools.tried_cases.case import Case, draw, draw_classes

NAMES = ("cat", "dog")
LABELS = "finetune --data-location data --labels labels.csv {TINY}"
FOLDERS = "finetune --data-location data {TINY}"
RELABEL = "finetune --data-location data --relabel fix.csv {TINY}"
VALIDATE = "validation --predictions a.csv --ground-truth truth.csv"
VOTE = "inference --hard-voting a.csv truth.csv --output vote.csv"


def _label_lines(more: str = "") -> list[str]:
    """Return a header and 20 rows: line 2 is `images/00.png,cat`, line 3 `images/01.png,dog`, and so on."""
    return ["image,label", *(f"images/{number:02d}.png,{NAMES[number % 2]}{more}" for number in range(20))]


def _make_table(change: Callable[[list[str]], object], folder: Path, more: str = "") -> None:
    """Write `data/images/00.png` … `19.png` and `data/labels.csv`, whose lines `change` changes in place."""
    for number in range(20):
        draw(folder / "data" / "images" / f"{number:02d}.png", number % 2, seed=number)
    lines = _label_lines(more)
    change(lines)
    (folder / "data" / "labels.csv").write_text("\n".join(lines) + "\n")


def _set_line(number: int, text: str) -> Callable[[list[str]], object]:
    return lambda lines: lines.__setitem__(number - 1, text)


def _make_folders(change: Callable[[Path], object], folder: Path) -> None:
    """Write `data/train/<class>`, 10 images each, and `data/test/<class>`, 4 each, then call `change(data)`."""
    draw_classes(folder / "data" / "train", NAMES, 10)
    draw_classes(folder / "data" / "test", NAMES, 4, start=100)
    change(folder / "data")


def _copy(source: str, target: str, data: Path) -> None:
    (data / target).parent.mkdir(parents=True, exist_ok=True)
    (data / target).write_bytes((data / source).read_bytes())


def _write_again(source: str, target: str, data: Path) -> None:
    Image.open(data / source).save(data / target)


def _write_bytes(target: str, content: bytes, data: Path) -> None:
    (data / target).write_bytes(content)


def _make_corrections(rows: Sequence[str], folder: Path) -> None:
    _make_folders(lambda data: None, folder)
    (folder / "fix.csv").write_text("\n".join(["match,factor,from,to", *rows]) + "\n")


def _make_answers(truth: Sequence[str], answers: Sequence[str], folder: Path) -> None:
    (folder / "truth.csv").write_text("\n".join(truth) + "\n")
    (folder / "a.csv").write_text("\n".join(answers) + "\n")


TRUTH = ["image,label", *(f"{number}.png,{NAMES[number % 2]}" for number in range(10))]


def _table(name: str, line: int, text: str, *says: str, exit_code: int = 3) -> Case:
    return Case(name, partial(_make_table, _set_line(line, text)), (LABELS,), exit_code, says=says)


def _folders(name: str, change: Callable[[Path], object], *says: str, exit_code: int = 3) -> Case:
    return Case(name, partial(_make_folders, change), (FOLDERS,), exit_code, says=says)


def _corrections(name: str, row: str, *says: str, rows: Sequence[str] = ()) -> Case:
    return Case(name, partial(_make_corrections, [*rows, row]), (RELABEL,), 3, says=says)


def _answers(name: str, line: int, text: str, *says: str, command: str = VALIDATE, exit_code: int = 3) -> Case:
    answers = [*TRUTH]
    answers[line - 1] = text
    return Case(name, partial(_make_answers, TRUTH, answers), (command,), exit_code, says=says)


CASES: list[Case] = [
    _table("an image that is missing", 7, "images/99.png,cat", "labels.csv", "images/99.png"),
    _table("an empty label", 9, "images/07.png,", "labels.csv", "9"),
    _table("an id twice with two labels", 5, "images/01.png,cat", "images/01.png", "twice"),
    _table("an id twice with one label", 5, "images/01.png,dog", "images/01.png"),
    _table("one image under two spellings", 5, "./images/01.png,dog", "images/01.png"),
    _table("a comma too many", 6, "images/04.png,cat,big", "6"),
    _table("a quote that does not end", 6, '"images/04.png,cat', "labels.csv"),
    _table("a class with one image", 6, "images/04.png,catt", "catt", exit_code=0),
    _table("two classes in a cell", 6, "images/04.png,cat|dog", "cat|dog"),
    _table("a class in another case", 6, "images/04.png,Cat", "Cat"),
    _table("an image outside of the data", 6, "../other.png,cat", "../other.png"),
    _table("an empty id", 6, ",cat", "6"),
    _folders(
        "a training image in the test set",
        partial(_copy, "train/cat/003.png", "test/cat/200.png"),
        "test/cat/200.png",
        "train/cat/003.png",
    ),
    _folders(
        "a training image in the test set under another format",
        partial(_write_again, "train/cat/003.png", "test/cat/200.bmp"),
        "test/cat/200.bmp",
    ),
    _folders(
        "a training image in two classes",
        partial(_copy, "train/cat/003.png", "train/dog/200.png"),
        "train/dog/200.png",
        "train/cat/003.png",
        exit_code=0,
    ),
    _folders("a test class that is not trained", lambda data: draw(data / "test" / "cow" / "1.png", 5), "cow"),
    _folders(
        "an image that is no image", partial(_write_bytes, "train/cat/bad.png", b"not a picture"), "train/cat/bad.png"
    ),
    _folders(
        "an image that ends early",
        partial(_write_bytes, "train/cat/bad.png", b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR"),
        "train/cat/bad.png",
    ),
    _folders("an empty file", partial(_write_bytes, "train/cat/bad.png", b""), "train/cat/bad.png"),
    _corrections("corrections of an unknown image", "nowhere.png,label,cat,dog", "row 2", "nowhere.png"),
    _corrections("corrections from an unknown class", "train/cat/001.png,label,cow,dog", "row 2", "'cow'"),
    _corrections("corrections to an unknown class", "train/cat/001.png,label,cat,cow", "row 2", "'cow'"),
    _corrections("corrections of another label than the image has", "train/cat/001.png,label,dog,cat", "row 2"),
    _corrections(
        "corrections that contradict",
        "train/cat/001.png,label,*,dog",
        "rows 2 and 3",
        rows=["train/cat/001.png,label,cat,dog"],
    ),
    _corrections("corrections that change nothing", "train/cat/001.png,label,cat,cat", "row 2", "changes nothing"),
    _corrections("corrections of an unknown factor", "train/cat/001.png,colour,cat,dog", "row 2", "'colour'"),
    _answers("predictions without a class", 4, "2.png,", "line 4", "2.png"),
    _answers("predictions with an id twice", 4, "1.png,dog", "1.png"),
    _answers("predictions that miss an id", 4, "77.png,cat", "2.png"),
    _answers("predictions of an unknown class", 4, "2.png,cow", "cat → cow 1", exit_code=0),
    _answers("votes of tables that miss an id", 4, "77.png,cat", "77.png", command=VOTE),
    _answers("predictions with an empty id", 4, ",cat", "4"),
]
