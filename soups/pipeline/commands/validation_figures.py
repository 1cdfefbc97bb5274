"""Figures and the table of classes that validating a model and validating tables share."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from soups.report.answers import JOINT, LabelledPredictions
from soups.report.figures.wrong_images import draw_wrong_images
from soups.report.per_class import draw_confusion
from soups.report.validation import class_rows

if TYPE_CHECKING:
    import pandas as pd


def draw_validation_figures(
    answers: LabelledPredictions,
    folder: Path,
    stem: str,
    what: str,
    image: Callable[[int], np.ndarray] | None,
    most: int,
    maps: tuple[Mapping[int, Sequence[np.ndarray]], str] = ({}, ""),
) -> None:
    """Draw the confusion matrices, and the wrong images where images are at hand; prints the pictures' paths.

    Args:
        answers: N predictions and the truth.
        folder: for the pictures, `<stem>_confusion.png`, `<stem>_confusion_<factor>.png`, `<stem>_wrong.png`.
        stem: the model's name, or the table's.
        what: the images in words, for titles.
        image: row → (H, W, 3) uint8 pixels.
        most: how many wrong images are shown at the most.
        maps: row → pictures of its maps, for the rows that are shown, and what they are.
    """
    print()
    for of, part in answers.parts().items():
        path = folder / (f"{stem}_confusion.png" if of == JOINT else f"{stem}_confusion_{of}.png")
        title = f"{stem}: {what}" if of == JOINT else f"{stem}: {of}, {what}"
        draw_confusion(part.matrix, part.space.names, path, title=title)
        print(path)
    if image is not None:
        surest = ", the surest first" if answers.confidences is not None else ""
        path = folder / f"{stem}_wrong.png"
        title = f"{stem}: wrong {what}{surest}"
        draw_wrong_images(image, answers, path, title=title, most=most, maps=maps[0], told=maps[1])
        print(path)


def class_table_frame(answers: LabelledPredictions) -> "pd.DataFrame":
    """The scores of each class and level as a table: `of`, `class`, `precision`, `recall`, `f1`, `support`."""
    import pandas as pd

    return pd.DataFrame(class_rows(answers))
