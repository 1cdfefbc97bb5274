"""What `inference.py` does: predictions of one model or of a vote on the test images, as CSV."""

import dataclasses
import logging
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from soups import cli
from soups.data.description import is_described
from soups.data.layouts import samples_elsewhere
from soups.data.samples import reduced, set_rows
from soups.data.submission import default_table, fill_template, find_template, in_order_of, read_truth
from soups.ensembles import vote_tables
from soups.errors import DataError, UsageError
from soups.labels import LabelSpace
from soups.pipeline.ballots import ballot_of, ballots_of_each
from soups.pipeline.evaluate import Bench
from soups.pipeline.main import open_bench
from soups.pipeline.run import Run, existing_run, latest_run
from soups.pipeline.settings import InferenceSettings
from soups.pipeline.tables import space_of_tables
from soups.records import write_table

if TYPE_CHECKING:
    import pandas as pd

logger = logging.getLogger(__name__)

_OF_TEST = ("test_location", "image_column", "label_column")
"""What may differ from the run's settings: where other test images are, and how a CSV of them calls its columns."""
_WAYS = ("soft_voting", "weighted_ensemble", "hard_voting")


def predict(given: cli.Given[InferenceSettings]) -> None:
    """Write the predictions; prints the path of the CSV.

    Raises:
        UsageError: settings that contradict each other, or a name that is no model.
        DataError: a test image or a table that is not what it should be; nothing is written then.
    """
    settings = given.settings
    way = _way_of_voting(settings)
    if way == "hard_voting" and any(name.lower().endswith(".csv") for name in settings.hard_voting or ()):
        _vote_of_tables(settings)
        return
    bench = open_bench(settings, given.names, may_differ=_OF_TEST if "test_location" in given.names else ())
    ballots = ballots_of_each(settings, bench) if settings.each else [ballot_of(settings, bench, way)]
    bench = _with_test_images(bench, settings, given.names)
    rows = set_rows(bench.run.samples, "test")
    if rows.empty:
        raise DataError(
            f"run {bench.run.name!r} has no test images",
            expected="a folder `test` in the data location",
            next_step="give the images: --test-location DIR",
        )
    images, template = rows["image"].tolist(), _template(settings, bench.run)
    for ballot in ballots:
        result, space = ballot.count(bench, "test"), ballot.space
        if template is None:
            table = default_table(images, result, space, settings.probabilities)
            table = _as_listed(table, bench.run)
        else:
            table = fill_template(template, images, result, space)
            logger.info("in the columns and order of %s", template)
        path = _output(settings, bench.run.folder, ballot.name)
        write_table(path, table)
        _tell_accuracy(settings, bench, space, images, result)
        print(path)


def _way_of_voting(settings: InferenceSettings) -> str | None:
    if settings.split and settings.hard_voting is None:
        raise UsageError("--split: a vote on each factor is a hard one", next_step="add --hard-voting")
    if settings.normalise != "probability" and settings.soft_voting is None:
        raise UsageError("--normalise is for --soft-voting", next_step="add --soft-voting")
    if settings.formula != "exponents" and settings.weighted_ensemble is None:
        raise UsageError("--formula is for --weighted-ensemble", next_step="add --weighted-ensemble")
    ways = [way for way in _WAYS if getattr(settings, way) is not None]
    if settings.each and (ways or settings.output is not None):
        other = f"--{ways[0].replace('_', '-')}" if ways else "--output"
        raise UsageError(f"--each and {other}", expected="a table for each model", next_step="leave one of them out")
    if len(ways) > 1:
        flags = " and ".join(f"--{way.replace('_', '-')}" for way in ways)
        raise UsageError(f"{flags} together", expected="one way of voting")
    return ways[0] if ways else None


def _with_test_images(bench: Bench, settings: InferenceSettings, given: frozenset[str]) -> Bench:
    """The bench with the test images of --test-location, where that is given."""
    location, recorded = settings.data.test_location, bench.run.recorded.data
    whole = recorded.limit is None  # Else the run's table has some of the images alone; who names them wants all.
    if "test_location" not in given or location is None or (location == recorded.test_location and whole):
        return bench
    import pandas as pd

    run = bench.run
    named = {name: getattr(settings.data, name) for name in _OF_TEST if name in given}
    elsewhere = recorded.model_copy(update={**named, "limit": None})
    joint = run.recorded.joint_space
    test = samples_elsewhere(elsewhere, set((joint or run.space).names))
    test["group"] = test["group"].where(test["group"] != "", test["image"])
    if joint is not None:
        test["label"] = reduced(test["label"], joint, run.space)
    others = run.samples[run.samples["split"] != "test"]
    table = pd.concat([others, test], ignore_index=True).fillna("").astype(str)
    settled = run.recorded.model_copy(update={"data": elsewhere})
    return dataclasses.replace(bench, run=dataclasses.replace(run, recorded=settled, table=table))


def _as_listed(table: "pd.DataFrame", run: Run) -> "pd.DataFrame":
    """Predictions in the order and with the ids of a CSV that names the test images, where one does."""
    data = run.recorded.data
    location = Path(data.test_location or "")
    return in_order_of(table, location, data) if location.is_file() else table


def _template(settings: InferenceSettings, run: Run) -> Path | None:
    if settings.sample_submission is not None:
        path = Path(settings.sample_submission)
        if not path.is_file():
            raise UsageError(f"--sample-submission {path}: no such file", expected="a CSV file")
        return path
    data = run.recorded.data
    if data.limit is not None:
        message = "run %s looks at %d images of each set at the most, so no template is filled; %s"
        logger.warning(message, run.name, data.limit, "--test-location DIR predicts all images of DIR")
        return None
    return find_template(data.locations, settings.data.test_location or data.test_location)


def _output(settings: InferenceSettings, run_folder: Path | None, what: str) -> Path:
    if settings.output is not None:
        path = Path(settings.output)
        return path if path.suffix else path.with_suffix(".csv")
    if settings.output_folder is not None:
        return Path(settings.output_folder) / f"{what}.csv"
    if run_folder is None:
        raise UsageError("--output is missing", expected="the CSV to write, where there is no run to write it into")
    return run_folder / "output" / f"{what}.csv"


def _vote_of_tables(settings: InferenceSettings) -> None:
    """Hard voting over prediction CSVs alone: no model and no image is read."""
    members = (*(settings.model_name or ()), *(settings.hard_voting or ()))
    others = [name for name in members if not name.lower().endswith(".csv")]
    if others:
        raise UsageError(
            f"--hard-voting: {others[0]} is no CSV",
            expected="models alone or CSVs alone",
            next_step="write the model's predictions first: python inference.py --model-name M",
        )
    name = settings.run.name or latest_run(settings.run)
    run = existing_run(settings.run, name) if name else None
    path = _output(settings, run.folder if run else None, "hard_voting")
    space = None
    # A run that nobody named may have nothing to do with the tables; but their factors it alone can tell.
    if settings.run.name or settings.split or is_described(settings.data.layout):
        space = space_of_tables(settings, Path(members[0]))[1]
    if settings.split and (space is None or len(space.factors) < 2):
        raise UsageError(
            "--split: no factors to split by",
            expected="tables of a run whose labels have several (--name), or their layout (--layout profile)",
            found=str(space) if space is not None else "answers that nobody tells the factors of",
        )
    write_table(path, vote_tables([Path(member) for member in members], space, split=settings.split))
    print(path)


def _tell_accuracy(
    settings: InferenceSettings, bench: Bench, space: LabelSpace, images: list[str], result: np.ndarray
) -> None:
    """Say how many predictions are right, where the truth is known."""
    labels = bench.labels("test", space)
    if settings.ground_truth is not None:
        truth = read_truth(only_table(Path(settings.ground_truth), "--ground-truth"), images, space)
        labels = space.encode(truth)
    if len(labels) and (labels >= 0).all():
        right = int(np.count_nonzero(result.argmax(axis=1) == labels))
        logger.info("%d of %d right (%.1f%%)", right, len(labels), 100 * right / len(labels))


def only_table(path: Path, flag: str) -> Path:
    """A CSV, or the only one in a folder.

    Raises:
        UsageError: the folder has none, or several.
    """
    if not path.is_dir():
        return path
    tables = sorted(path.glob("*.csv"))
    if len(tables) != 1:
        found = ", ".join(table.name for table in tables) or "none"
        raise UsageError(f"{flag} {path}", expected="a CSV, or a folder with one", found=found)
    return tables[0]
