"""Folders of images: which are sets, which are classes, and what is left out."""

from pathlib import Path

import pandas as pd

from tools.tried_cases.case import Case, draw_classes


def _make_training_testing(folder: Path) -> None:
    draw_classes(folder / "data" / "Training", ("glioma", "notumor"))
    draw_classes(folder / "data" / "Testing", ("glioma", "notumor"), 5, start=100)


def _check_training_testing(folder: Path) -> None:
    samples = pd.read_csv(next(folder.glob("runs/*/samples.csv")))
    assert set(samples["label"]) == {"glioma", "notumor"}
    assert (samples["split"] == "test").sum() == 10


CASES: list[Case] = [
    Case(
        "Training and Testing",
        _make_training_testing,
        ("finetune --data-location data {TINY}",),
        check=_check_training_testing,
    ),
]
