"""What `validation.py` does with tables of predictions: held against the truth, one alone or several side by side."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from soups import cli
from soups.answertables import AnswerTable, read_answers
from soups.data.decode import decode
from soups.data.folders import images_below, name_keys
from soups.data.samples import declared_space
from soups.data.settings import DataSettings
from soups.errors import DataError, UsageError
from soups.labels import LabelSpace
from soups.pipeline.predict import only_table
from soups.pipeline.run import Run, existing_run, latest_run
from soups.pipeline.sets import image_paths
from soups.pipeline.settings import ValidationSettings
from soups.pipeline.validate import class_table_of, draw_pictures
from soups.records import write_table
from soups.report.answers import Answers
from soups.report.validation import comparison_rows, comparison_text, validation_text

if TYPE_CHECKING:
    import pandas as pd

logger = logging.getLogger(__name__)

_LONGEST_SIDE = 256


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
    run, space = _space(settings, truth_path)
    truth, tables = read_answers(truth_path, space), [read_answers(path, space) for path in paths]
    space = space or _plain_space(truth, tables)
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
    draw_pictures(only, pictures, name, "images", _pixels(truth.ids, run, settings.data), settings.images)


def _space(settings: ValidationSettings, truth: Path) -> tuple[Run | None, LabelSpace | None]:
    """The run that the tables belong to, as far as that is known, and the classes."""
    named = settings.run.name
    if named is not None:
        run = existing_run(settings.run, named)
        if run is None:
            raise UsageError(f"{settings.run.runs_folder}/{named}: no such run", next_step="leave --name out")
        return run, _fitting(run, truth) or run.space
    if (declared := declared_space(settings.data)) is not None:
        return None, declared
    latest = latest_run(settings.run)
    run = existing_run(settings.run, latest) if latest else None
    space = _fitting(run, truth) if run is not None else None
    if run is None or space is None:
        return None, None
    logger.info("the classes are those of run %s", run.name)
    return run, space


def _fitting(run: Run, truth: Path) -> LabelSpace | None:
    """The run's classes, or all that its data has, whichever the truth is told in; None where it is neither."""
    for space in dict.fromkeys([run.space, run.recorded.joint_space or run.space]):
        try:
            read_answers(truth, space)
        except DataError:
            continue
        return space
    return None


def _plain_space(truth: AnswerTable, tables: list[AnswerTable]) -> LabelSpace:
    """The classes that occur; numbers in their order."""
    numbers = [all(answer.isdecimal() for answer in table.answers) for table in (truth, *tables)]
    for table, numeric in zip(tables, numbers[1:], strict=True):
        if numeric != numbers[0]:
            words = ("numbers", "names") if numeric else ("names", "numbers")
            raise DataError(
                f"{table.path}: gives classes as {words[0]}, {truth.path} as {words[1]}",
                expected="names in both or numbers in both",
                next_step="name the run whose classes they are, --name, or the layout, --layout",
            )
    names = {*truth.answers, *(answer for table in tables for answer in table.answers)}
    return LabelSpace(tuple(sorted(names, key=int) if numbers[0] else sorted(names)))


def _answers(table: AnswerTable, truth: AnswerTable, space: LabelSpace) -> Answers:
    rows = table.order_of(truth)
    confidences = table.confidences[rows] if table.confidences is not None else None
    groups = truth.groups if truth.groups is not None else truth.ids
    predicted = space.encode(table.answers)[rows]
    return Answers(space.encode(truth.answers), predicted, np.array(groups), space, confidences)


def _name(path: Path, paths: list[Path]) -> str:
    return path.stem if [other.stem for other in paths].count(path.stem) == 1 else str(path)


def _pixels(ids: list[str], run: Run | None, data: DataSettings) -> Callable[[int], np.ndarray] | None:
    """Pixels of the images that the ids name: below --test-location, or among the run's; None where some are not."""
    if data.test_location is not None:
        root = Path(data.test_location)
        paths = images_below(root)[0] if root.is_dir() else []
        names = [path.relative_to(root).as_posix() for path in paths]
    else:
        paths = list(image_paths(run.samples, run)) if run is not None else []
        names = run.samples["image"].tolist() if run is not None else []
    files = {key: path for name, path in zip(names, paths, strict=True) for key in name_keys(name)}
    if not all(name in files for name in ids):
        logger.info("no picture of the wrong images: they are neither a run's nor below --test-location")
        return None
    return lambda row: _small(files[ids[row]])


def _small(path: Path) -> np.ndarray:
    from PIL import Image

    picture = Image.fromarray(decode(path))
    picture.thumbnail((_LONGEST_SIDE, _LONGEST_SIDE))
    return np.asarray(picture)


def _frame(rows: list[dict[str, Any]]) -> "pd.DataFrame":
    import pandas as pd

    return pd.DataFrame(rows)
