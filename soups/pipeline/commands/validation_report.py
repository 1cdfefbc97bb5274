"""The report shared by the validation of models and of tables: printed scores, the class table and figures."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from soups.files.atomic import write_table
from soups.report.answers import JOINT, LabelledPredictions
from soups.report.figures.wrong_images import draw_wrong_images
from soups.report.per_class import draw_confusion
from soups.report.validation import class_rows, validation_text


def report_predictions(
    predictions: LabelledPredictions,
    stem: str,
    description: str,
    folders: tuple[Path, Path],
    image: Callable[[int], np.ndarray] | None,
    limit: int,
    maps: tuple[Mapping[int, Sequence[np.ndarray]], str] = ({}, ""),
) -> None:
    """Print scores, write the class table and draw confusion matrices and wrong images; prints the figures' paths.

    Args:
        predictions: predictions and labels of N images.
        stem: name of the model or the table.
        description: the images, for titles.
        folders: folder of the table `<stem>_classes.csv` (`of`, `class`, `precision`, `recall`, `f1`, `support`), and
            that of the figures `<stem>_confusion.png`, `<stem>_confusion_<factor>.png` and `<stem>_wrong.png`.
        image: row number → (H, W, 3) uint8 pixels; None: no figure of wrong images.
        limit: maximum number of wrong images.
        maps: row number → overlays of the shown rows, and their description.
    """
    tables, figures = folders
    print(validation_text(stem, predictions, description))
    write_table(tables / f"{stem}_classes.csv", pd.DataFrame(class_rows(predictions)))
    print()
    for factor, part in predictions.by_factor().items():
        suffix, title = ("", description) if factor == JOINT else (f"_{factor}", f"{factor}, {description}")
        path = figures / f"{stem}_confusion{suffix}.png"
        draw_confusion(part.matrix, part.space.names, path, title=f"{stem}: {title}")
        print(path)
    if image is not None:
        surest = ", the surest first" if predictions.confidences is not None else ""
        path = figures / f"{stem}_wrong.png"
        title = f"{stem}: wrong {description}{surest}"
        draw_wrong_images(image, predictions, path, title=title, most=limit, maps=maps[0], maps_caption=maps[1])
        print(path)
