"""What `validation.py` does with tables of predictions: held against the truth, one alone or several side by side."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from soups.cli import flags as cli
from soups.core.errors import UsageError
from soups.core.labels import LabelSpace
from soups.files.atomic import write_table
from soups.files.prediction_tables import PredictionTable, read_predictions
from soups.pipeline.commands.predict import find_table
from soups.pipeline.commands.validation_figures import class_table_frame, draw_validation_figures
from soups.pipeline.run.prediction_space import plain_space, space_of_tables, thumbnail_reader
from soups.pipeline.settings.commands import ValidationSettings
from soups.report.answers import LabelledPredictions
from soups.report.validation import comparison_rows, comparison_text, validation_text

if TYPE_CHECKING:
    import pandas as pd


def validate_tables(given: cli.ParsedSettings[ValidationSettings]) -> None:
    """Print what a table gets wrong and draw it; of several tables, how they compare with the first.

    Classes are those of the run that is named, else of a described --layout, else of the run last trained where the
    truth fits it, else the words in the tables.

    Raises:
        UsageError: a folder with no table or several.
        DataError: tables of different images or classes, doubled ids, or answers that are no class.
    """
    settings = given.settings
    truth_path = find_table(Path(settings.ground_truth or ""), "--ground-truth")
    paths = _named(settings.predictions or ())
    run, space = space_of_tables(settings, truth_path)
    truth = read_predictions(truth_path, space)
    tables = {name: [read_predictions(path, space) for path in own] for name, own in paths.items()}
    space = space or plain_space([truth, *(table for own in tables.values() for table in own)])
    answers = {name: [_answers(table, truth, space) for table in own] for name, own in tables.items()}
    name, own = next(iter(answers.items()))
    beside = paths[name][0].parent
    output = run.folder / "output" if run is not None else beside
    if len(answers) > 1 or len(own) > 1:
        rows = comparison_rows(answers)
        write_table(output / "predictions_comparison.csv", _frame(rows))
        print(comparison_text(rows))
        return
    print(validation_text(name, own[0], "images"))
    write_table(output / f"{name}_classes.csv", class_table_frame(own[0]))
    pictures = run.folder / "figures" if run is not None else beside
    draw_validation_figures(
        own[0], pictures, name, "images", thumbnail_reader(truth.ids, run, settings.data), settings.images
    )


def _named(members: Sequence[str]) -> dict[str, list[Path]]:
    """Name → tables, from `FILE`, `NAME=FILE` or `NAME=FILE,FILE,…`.

    Raises:
        UsageError: a name is there twice.
    """
    found: dict[str, list[Path]] = {}
    for member in members:
        label, sign, files = member.partition("=")
        if not sign or Path(member).exists() or "/" in label:
            label, files = "", member
        paths = [find_table(Path(file), "--predictions") for file in (files.split(",") if label else [files])]
        name = label or (paths[0].stem if paths[0].stem not in found else str(paths[0]))
        if name in found:
            raise UsageError(f"--predictions: {name} twice", expected="each once, or NAME=FILE with names of their own")
        found[name] = paths
    return found


def _answers(table: PredictionTable, truth: PredictionTable, space: LabelSpace) -> LabelledPredictions:
    rows = table.rows_for(truth)
    confidences = table.confidences[rows] if table.confidences is not None else None
    groups = truth.groups if truth.groups is not None else truth.ids
    predicted = space.encode(table.labels)[rows]
    return LabelledPredictions(space.encode(truth.labels), predicted, np.array(groups), space, confidences)


def _frame(rows: list[dict[str, Any]]) -> "pd.DataFrame":
    import pandas as pd

    return pd.DataFrame(rows)
