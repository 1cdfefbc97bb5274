"""Figures and the class table shared by the validation of models and of tables."""

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
    predictions: LabelledPredictions,
    folder: Path,
    stem: str,
    description: str,
    image: Callable[[int], np.ndarray] | None,
    limit: int,
    maps: tuple[Mapping[int, Sequence[np.ndarray]], str] = ({}, ""),
) -> None:
    """Draw confusion matrices, and the wrong images if `image` is given; prints the figures' paths.

    Args:
        predictions: predictions and labels of N images.
        folder: folder of the figures `<stem>_confusion.png`, `<stem>_confusion_<factor>.png`, `<stem>_wrong.png`.
        stem: name of the model or the table.
        description: the images, for titles.
        image: row number → (H, W, 3) uint8 pixels.
        limit: maximum number of wrong images.
        maps: row number → overlays of the shown rows, and their description.
    """
    print()
    for part_name, part in predictions.by_factor().items():
        path = folder / (f"{stem}_confusion.png" if part_name == JOINT else f"{stem}_confusion_{part_name}.png")
        title = f"{stem}: {description}" if part_name == JOINT else f"{stem}: {part_name}, {description}"
        draw_confusion(part.matrix, part.space.names, path, title=title)
        print(path)
    if image is not None:
        surest = ", the surest first" if predictions.confidences is not None else ""
        path = folder / f"{stem}_wrong.png"
        title = f"{stem}: wrong {description}{surest}"
        draw_wrong_images(image, predictions, path, title=title, most=limit, maps=maps[0], maps_caption=maps[1])
        print(path)


def class_table_frame(predictions: LabelledPredictions) -> "pd.DataFrame":
    """Return the scores of each class and level: `of`, `class`, `precision`, `recall`, `f1`, `support`."""
    import pandas as pd

    return pd.DataFrame(class_rows(predictions))
