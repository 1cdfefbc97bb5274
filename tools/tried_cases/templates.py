"""Templates of answers, and files that predictions are written to."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import pandas as pd

from tools.tried_cases.case import Case, draw, draw_classes

TRAIN = "finetune --data-location data {TINY}"
OUTPUT = "runs/data/output"
IDS = [f"{number}.png" for number in range(4)]


def _make(names: Sequence[str], header: str, answers: str, folder: Path) -> None:
    """Write `data/train/<class>`, `data/test/0.png` … and a template whose rows end in `answers`."""
    draw_classes(folder / "data" / "train", names)
    for number, name in enumerate(IDS):
        draw(folder / "data" / "test" / name, number % len(names), seed=90000 + number)
    rows = "".join(f"{name},{answers}\n" for name in IDS)
    (folder / "data" / "sample_submission.csv").write_text(f"{header}\n{rows}")


def _make_others(folder: Path) -> None:
    _make(("cat", "dog"), "id,label", "cat", folder)
    for kind, name in enumerate("ab"):
        for number, file in enumerate(IDS):
            draw(folder / name / "new" / "monday" / file, kind, seed=95000 + 100 * kind + number)


def _read(folder: Path, name: str = "soft_voting") -> pd.DataFrame:
    return pd.read_csv(folder / OUTPUT / f"{name}.csv", dtype=str)


def _check_shares(columns: Sequence[str], zero: Sequence[str], folder: Path) -> None:
    table = _read(folder)
    shares = table[list(columns)].astype(float)
    assert ((shares > 0) & (shares < 1)).all().all(), table
    assert len(columns) < 2 or (shares.sum(axis=1) - 1).abs().max() < 1e-6
    assert (table[list(zero)].astype(float) == 0).all().all()


def _check_answers(column: str, known: Sequence[str], folder: Path) -> None:
    table = _read(folder)
    assert set(table[column]) <= set(known), table
    assert table.iloc[:, 0].tolist() == IDS


def _check_usage(folder: Path) -> None:
    assert set(_read(folder)["Usage"]) == {"Public"}


def _check_second_file(folder: Path) -> None:
    assert list(_read(folder).columns) == ["id", "label"]
    assert list(_read(folder, "soft_voting_probabilities").columns) == ["image", "target", "confidence", "cat", "dog"]


def _make_own_file(folder: Path) -> None:
    _make(("cat", "dog"), "id,label", "cat", folder)
    (folder / "x_probabilities.csv").write_text("id,label\nmine,1\n")


def _check_own_file(folder: Path) -> None:
    assert (folder / "x_probabilities.csv").read_text() == "id,label\nmine,1\n"
    assert len(pd.read_csv(folder / "x_probabilities-2.csv")) == len(IDS)


def _check_other_folder(folder: Path) -> None:
    own = _read(folder)
    assert own["id"].tolist() == IDS and set(own["label"]) == {"cat", "dog"}, "the run's own answers stay"
    first, second = _read(folder, "soft_voting_new"), _read(folder, "soft_voting_new-2")
    assert first["image"].tolist() == second["image"].tolist() == [f"monday/{name}" for name in IDS]
    assert set(first["target"]) == {"cat"} and set(second["target"]) == {"dog"}


def _case(
    name: str, classes: Sequence[str], header: str, answers: str, check: Callable[[Path], object], *says: str
) -> Case:
    make = partial(_make, classes, header, answers)
    return Case(name, make, (TRAIN, "inference --soft-voting"), says=says, check=check)  # type: ignore[arg-type]


NUMBERS = [str(number) for number in range(1, 12)]
TRAINED_LONG = TRAIN + " --epochs 6"

CASES: list[Case] = [
    _case(
        "0.5 between two classes",
        ("0", "1"),
        "id,target",
        "0.5",
        partial(_check_shares, ["target"], []),
        "column 'target' takes the probability of class 1, 1",
    ),
    _case(
        "columns of classes in another case",
        ("Healthy", "Rust"),
        "id,healthy,rust",
        "0,0",
        partial(_check_shares, ["healthy", "rust"], []),
        "probabilit",
    ),
    _case(
        "a column that is no class",
        ("cat", "dog"),
        "id,cat,dog,UNK",
        "0,0,0",
        partial(_check_shares, ["cat", "dog"], ["UNK"]),
        "UNK",
    ),
    _case(
        "classes that are whole numbers",
        NUMBERS,
        "id,label",
        "0",
        partial(_check_answers, "label", NUMBERS),
        "answers are class names in column 'label'",
    ),
    _case(
        "indices",
        ("cat", "dog", "eel"),
        "id,label",
        "2",
        partial(_check_answers, "label", "012"),
        "answers are class indices in column 'label': 0 = cat, 1 = dog, 2 = eel",
    ),
    _case(
        "two classes and zeros",
        ("cat", "dog"),
        "id,label",
        "0",
        partial(_check_answers, "label", "01"),
        "answers are class indices in column 'label': 0 = cat, 1 = dog",
        "--probabilities",
    ),
    _case(
        "an answer before a usage",
        ("cat", "dog"),
        "id,label,Usage",
        "cat,Public",
        _check_usage,
        "answers are class names in column 'label'",
    ),
    Case(
        "a second file of probabilities",
        partial(_make, ("cat", "dog"), "id,label", "cat"),
        (TRAIN, "inference --soft-voting --probabilities"),
        check=_check_second_file,
    ),
    Case(
        "a file of one's own in the place of the second file",
        _make_own_file,
        (TRAIN, "inference --soft-voting --probabilities --output x.csv"),
        says=("x_probabilities.csv holds the answers for other images", "x_probabilities-2.csv"),
        check=_check_own_file,
    ),
    Case(
        "other folders of one name",
        _make_others,
        (
            *(TRAINED_LONG, "inference --soft-voting", "inference --soft-voting --test-location a/new"),
            "inference --soft-voting --test-location b/new",
        ),
        says=("soft_voting_new.csv holds the answers for other images", "soft_voting_new-2.csv"),
        check=_check_other_folder,
    ),
    Case(
        "an answer file of other images",
        _make_others,
        (
            TRAIN,
            "inference --soft-voting --test-location a/new --output x.csv",
            "inference --soft-voting --output x.csv",
        ),
        2,
        says=("--output x.csv: it holds the answers for other images",),
    ),
    Case(
        "one image",
        _make_others,
        (TRAINED_LONG, "inference --soft-voting --test-location b/new/monday/1.png"),
        says=("1.png: dog (",),
    ),
    Case(
        "votes over models and over tables",
        _make_others,
        (
            TRAIN,
            "inference --soft-voting --sample-submission none --probabilities",
            f"inference --soft-voting {OUTPUT}/soft_voting.csv",
        ),
        says=("soft_vote_of_tables.csv",),
    ),
]
