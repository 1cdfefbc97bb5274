"""Encodings, plotting backends and terminals."""

from pathlib import Path

from tools.tried_cases.case import Case, draw_classes

TRAIN = "finetune --name run --data-location daté {TINY}"
REPORT = "main --eval-individual-models --uniform-soup --report"
ASCII = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
NOTEBOOK = {"MPLBACKEND": "module://matplotlib_inline_missing.backend_inline"}


def _make(folder: Path) -> None:
    draw_classes(folder / "daté" / "train", ("café", "dog"), 8)
    draw_classes(folder / "daté" / "test", ("café", "dog"), 3, start=100)


def _check_pictures(folder: Path) -> None:
    assert list(folder.glob("runs/run/figures/*.png"))


def _check_answers(folder: Path) -> None:
    text = (folder / "runs" / "run" / "output" / "soft_voting.csv").read_text(encoding="utf-8")
    assert "test/café/100.png," in text


CASES: list[Case] = [
    Case(
        "a notebook's backend that is not installed",
        _make,
        (TRAIN, "validation"),
        check=_check_pictures,
        environment=NOTEBOOK,
    ),
    Case(
        "output in cp1252",
        _make,
        (TRAIN, REPORT),
        says=("uniform soup",),
        environment={"PYTHONIOENCODING": "cp1252", "PYTHONUTF8": "0"},
    ),
    Case(
        "output in ASCII", _make, (TRAIN, "validation"), says=("caf\\xe9",), environment={"PYTHONIOENCODING": "ascii"}
    ),
    Case(
        "the locale C and a path with é",
        _make,
        (TRAIN, REPORT, "inference --soft-voting"),
        says=("soft_voting.csv",),
        check=_check_answers,
        environment=ASCII,
    ),
]
