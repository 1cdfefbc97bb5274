"""The command `validation` with prediction tables: one table against the true labels, or several side by side."""

import logging
from collections.abc import Sequence
from itertools import chain
from pathlib import Path

import numpy as np
import pandas as pd

from soups.cli.flags import ParsedSettings
from soups.core.errors import UsageError
from soups.core.labels import LabelSpace
from soups.files.aligned_tables import read_all
from soups.files.atomic import write_table
from soups.files.prediction_tables import PredictionTable
from soups.pipeline.commands.validation_report import report_predictions
from soups.pipeline.run.prediction_space import find_table, plain_space, space_of_tables, thumbnail_reader
from soups.pipeline.settings.commands import ValidationSettings
from soups.report.answers import LabelledPredictions
from soups.report.validation import comparison_rows, comparison_text

logger = logging.getLogger(__name__)


def validate_tables(parsed: ParsedSettings[ValidationSettings]) -> None:
    """Print and draw the errors of a table; for several tables, print a comparison with the first.

    The classes are those of the named run, else of a `--layout` profile, else of the latest run if the true labels fit
    it, else the distinct answers in the tables.

    Raises:
        UsageError: A folder has no table or several.
        DataError: Tables differ in images or classes, have duplicate ids or unknown answers.
    """
    settings = parsed.settings
    truth_path = find_table(Path(settings.ground_truth or ""), "--ground-truth")
    paths = _parse_members(settings.predictions or ())
    run, space = space_of_tables(settings, truth_path)
    truth, *tables = read_all([truth_path, *chain(*paths.values())], space)
    space = space or plain_space([truth, *tables])
    matched = iter([_match_predictions(table, truth, space) for table in tables])
    predictions = {name: [next(matched) for _ in own] for name, own in paths.items()}
    name, (first, *others) = next(iter(predictions.items()))
    folder = paths[name][0].parent
    output, figures = (run.folder / "output", run.folder / "figures") if run is not None else (folder, folder)
    if len(predictions) > 1 or others:
        rows = comparison_rows(predictions)
        write_table(output / "predictions_comparison.csv", pd.DataFrame(rows))
        print(comparison_text(rows))
        return
    image = thumbnail_reader(truth.ids, run, settings.data)
    report_predictions(first, name, "images", (output, figures), image, settings.images)


def _parse_members(members: Sequence[str]) -> dict[str, list[Path]]:
    """Return name → tables, parsed from `FILE`, `NAME=FILE` or `NAME=FILE,FILE,…`.

    Raises:
        UsageError: A name is given twice.
    """
    named: dict[str, list[Path]] = {}
    for member in members:
        label, sign, files = member.partition("=")
        if not sign or Path(member).exists() or "/" in label:
            label, files = "", member
        paths = [find_table(Path(file), "--predictions") for file in (files.split(",") if label else [files])]
        name = label or (paths[0].stem if paths[0].stem not in named else str(paths[0]))
        if name in named:
            raise UsageError(f"--predictions: {name} twice", expected="different names: NAME=FILE")
        named[name] = paths
    return named


def _match_predictions(table: PredictionTable, truth: PredictionTable, space: LabelSpace) -> LabelledPredictions:
    groups = np.array(truth.groups if truth.groups is not None else truth.ids)
    probabilities = None
    if table.probability_classes and set(table.probability_classes) != set(space.names):
        missing = set(space.names).symmetric_difference(table.probability_classes)
        logger.warning("%s: no log-loss, because its classes are others: %s", table.path, ", ".join(sorted(missing)))
    elif table.probability_classes:
        probabilities = table.probabilities(space.names)
    labels, predicted = space.encode(truth.labels), space.encode(table.labels)
    return LabelledPredictions(labels, predicted, groups, space, table.confidences, probabilities)
