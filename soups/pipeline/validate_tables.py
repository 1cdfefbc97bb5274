"""What `validation.py` does with tables of predictions: held against the truth, one alone or several side by side."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from soups import cli
from soups.answertables import AnswerTable, read_answers
from soups.labels import LabelSpace
from soups.pipeline.predict import only_table
from soups.pipeline.settings import ValidationSettings
from soups.pipeline.tables import pixels_of, plain_space, space_of_tables
from soups.pipeline.validate import class_table_of, draw_pictures
from soups.records import write_table
from soups.report.answers import Answers
from soups.report.validation import comparison_rows, comparison_text, validation_text

if TYPE_CHECKING:
    import pandas as pd


def validate_tables(given: cli.Given[ValidationSettings]) -> None:
    """Print what a table gets wrong and draw it; of several tables, how they compare with the first.

    Classes are those of the run that is named, else of a described --layout, else of the run last trained where the
    truth fits it, else the words in the tables.

    Raises:
        UsageError: a folder with no table or several.
        DataError: tables of different images or classes, doubled ids, or answers that are no class.
    """
    settings = given.settings
    truth_path = only_table(Path(settings.ground_truth or ""), "--ground-truth")
    paths = [only_table(Path(name), "--predictions") for name in settings.predictions or ()]
    run, space = space_of_tables(settings, truth_path)
    truth, tables = read_answers(truth_path, space), [read_answers(path, space) for path in paths]
    space = space or plain_space([truth, *tables])
    answers = {_name(path, paths): _answers(table, truth, space) for path, table in zip(paths, tables, strict=True)}
    folder = run.folder / "output" if run is not None else paths[0].parent
    if len(paths) > 1:
        rows = comparison_rows(answers)
        write_table(folder / "predictions_comparison.csv", _frame(rows))
        print(comparison_text(rows))
        return
    ((name, only),) = answers.items()
    print(validation_text(name, only, "images"))
    write_table(folder / f"{name}_classes.csv", class_table_of(only))
    pictures = run.folder / "figures" if run is not None else folder
    draw_pictures(only, pictures, name, "images", pixels_of(truth.ids, run, settings.data), settings.images)


def _answers(table: AnswerTable, truth: AnswerTable, space: LabelSpace) -> Answers:
    rows = table.order_of(truth)
    confidences = table.confidences[rows] if table.confidences is not None else None
    groups = truth.groups if truth.groups is not None else truth.ids
    predicted = space.encode(table.answers)[rows]
    return Answers(space.encode(truth.answers), predicted, np.array(groups), space, confidences)


def _name(path: Path, paths: list[Path]) -> str:
    return path.stem if [other.stem for other in paths].count(path.stem) == 1 else str(path)


def _frame(rows: list[dict[str, Any]]) -> "pd.DataFrame":
    import pandas as pd

    return pd.DataFrame(rows)
