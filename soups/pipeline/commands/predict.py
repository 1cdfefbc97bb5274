"""What `inference.py` does: predictions of one model or of a vote on the test images, as one table."""

import dataclasses
import logging
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from soups.cli import flags as cli
from soups.core.errors import DataError, UsageError
from soups.core.labels import LabelSpace
from soups.data.layouts.layouts import separate_test_samples
from soups.data.layouts.schema import is_schema
from soups.data.samples import project_labels, set_rows
from soups.data.submission import SubmissionTable, find_template, read_truth, table_from_listing, table_from_template
from soups.ensembles import vote_tables
from soups.files.table_writers import require_writer, write_pages
from soups.pipeline.run.prediction_space import space_of_tables
from soups.pipeline.run.run import Run, existing_run, latest_run, remove_leftovers
from soups.pipeline.score.context import RunContext, open_context
from soups.pipeline.score.shards import (
    SET,
    ShardContext,
    compute_missing,
    error_of_failures,
    reorder_rows,
    split_into_shards,
)
from soups.pipeline.settings.commands import InferenceSettings
from soups.pipeline.vote.ensemble_spec import Ensemble, build_ensemble, build_single_model_ensembles
from soups.runtime.launchers import require_launcher

logger = logging.getLogger(__name__)

_OF_TEST = ("test_location", "image_column", "label_column")
"""What may differ from the run's settings: where other test images are, and how a CSV of them calls its columns."""
_WAYS = ("soft_voting", "weighted_ensemble", "hard_voting", "vote")


def predict(given: cli.ParsedSettings[InferenceSettings]) -> None:
    """Write the predictions; prints the path of the table.

    Raises:
        UsageError: settings that contradict each other, or a name that is no model.
        DataError: a test image or a table that is not what it should be; nothing is written then.
        PartialFailure: some pieces of work failed; what was done is kept.
    """
    settings = given.settings
    if settings.output is not None:
        require_writer(_output(settings, None, ""))
    require_launcher(settings.launch)
    way = _way_of_voting(settings)
    if way == "hard_voting" and any(name.lower().endswith(".csv") for name in settings.hard_voting or ()):
        _vote_on_tables(settings)
        return
    context = open_context(settings, given.names, may_differ=_OF_TEST if "test_location" in given.names else ())
    ensembles = (
        build_single_model_ensembles(settings, context) if settings.each else [build_ensemble(settings, context, way)]
    )
    context = _with_test_images(context, settings, given.names)
    rows = set_rows(context.run.samples, SET)
    if rows.empty:
        raise DataError(
            f"run {context.run.name!r} has no test images",
            expected="a folder `test` in the data location",
            next_step="give the images: --test-location DIR",
        )
    images = rows["image"].tolist()
    sheet = _sheet(settings, context.run, images)
    remove_leftovers(context.run)
    truths = [_truth(settings, context, ensemble.space, images) for ensemble in ensembles]
    models = {path: group.space for ensemble in ensembles for group in ensemble.groups for path in group.paths}
    shards = split_into_shards(context, settings.shard_size, len(models))
    failed = compute_missing(shards, models)
    lost = {each.task.path for each in failed}
    for ensemble, truth in zip(ensembles, truths, strict=True):
        if lost.isdisjoint(path for group in ensemble.groups for path in group.paths):
            path = _output(settings, context.run.folder, ensemble.name)
            _write(path, ensemble, shards, sheet, truth)
            print(path, flush=True)
    if failed:
        raise error_of_failures(failed, len(models) * len(shards))


def _write(
    path: Path, ensemble: Ensemble, shards: Sequence[ShardContext], sheet: SubmissionTable, truth: np.ndarray
) -> None:
    """The predictions of all shards as one table, one shard in memory at a time."""
    right = 0

    def counted() -> Iterator[np.ndarray]:
        nonlocal right
        for shard in shards:
            result = ensemble.count(shard, SET)
            right += int(np.count_nonzero(result.argmax(axis=1) == truth[shard.rows])) if len(truth) else 0
            yield sheet.compact(result, ensemble.space)

    blocks: Iterable[np.ndarray] = counted()
    if sheet.order is not None:
        blocks = reorder_rows(blocks, sheet.order, path.parent, len(shards[0].run.samples))
    write_pages(path, sheet.pages(blocks, ensemble.space))
    if len(truth):
        logger.info("%d of %d right (%.1f%%)", right, len(truth), 100 * right / len(truth))


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


def _with_test_images(context: RunContext, settings: InferenceSettings, given: frozenset[str]) -> RunContext:
    """The context with the test images of --test-location, where that is given."""
    location, recorded = settings.data.test_location, context.run.recorded.data
    whole = recorded.limit is None  # Else the run's table has some of the images alone; who names them wants all.
    if "test_location" not in given or location is None or (location == recorded.test_location and whole):
        return context
    import pandas as pd

    run = context.run
    named = {name: getattr(settings.data, name) for name in _OF_TEST if name in given}
    elsewhere = recorded.model_copy(update={**named, "limit": None})
    joint = run.recorded.joint_space
    test = separate_test_samples(elsewhere, set((joint or run.space).names))
    test["group"] = test["group"].where(test["group"] != "", test["image"])
    if joint is not None:
        test["label"] = project_labels(test["label"], joint, run.space)
    others = run.samples[run.samples["split"] != "test"]
    table = pd.concat([others, test], ignore_index=True).fillna("").astype(str)
    settled = run.recorded.model_copy(update={"data": elsewhere})
    return dataclasses.replace(context, run=dataclasses.replace(run, recorded=settled, table=table))


def _sheet(settings: InferenceSettings, run: Run, images: list[str]) -> SubmissionTable:
    """In the columns and order of a template; else of the CSV that names the test images, else as they come."""
    template = _template(settings, run)
    if template is not None:
        sheet = table_from_template(template, images)
        logger.info("in the columns and order of %s", template)
        return sheet
    data = run.recorded.data
    location = Path(data.test_location or "")
    if location.is_file():
        return table_from_listing(location, images, data, settings.probabilities)
    return SubmissionTable(images, all_probabilities=settings.probabilities)


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


def _vote_on_tables(settings: InferenceSettings) -> None:
    """Hard voting over prediction CSVs alone: no model and no image is read."""
    if settings.launch.launcher != "local":
        problem = f"--launcher {settings.launch.launcher}: a vote over tables has no work for a cluster"
        raise UsageError(problem, next_step="leave it out")
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
    if settings.run.name or settings.split or is_schema(settings.data.layout):
        space = space_of_tables(settings, Path(members[0]))[1]
    if settings.split and (space is None or len(space.factors) < 2):
        raise UsageError(
            "--split: no factors to split by",
            expected="tables of a run whose labels have several (--name), or their layout (--layout profile)",
            found=str(space) if space is not None else "answers that nobody tells the factors of",
        )
    write_pages(path, [vote_tables([Path(member) for member in members], space, split=settings.split)])
    print(path)


def _truth(settings: InferenceSettings, context: RunContext, space: LabelSpace, images: list[str]) -> np.ndarray:
    """(N,) int64, the true classes; none where not all are known."""
    labels = context.labels(SET, space)
    if settings.ground_truth is not None:
        labels = space.encode(read_truth(find_table(Path(settings.ground_truth), "--ground-truth"), images, space))
    return labels if (labels >= 0).all() else labels[:0]


def find_table(path: Path, flag: str) -> Path:
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
