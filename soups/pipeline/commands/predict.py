"""The command `inference`: writes the test predictions of one model or of an ensemble as one table."""

import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from soups.cli.flags import ParsedSettings
from soups.core.errors import DataError, UsageError
from soups.core.labels import LabelSpace
from soups.data.layouts.image_files import is_image_name
from soups.data.layouts.layouts import separate_test_samples
from soups.data.samples import project_labels, set_rows
from soups.data.submission import (
    ANSWER,
    CONFIDENCE,
    ID,
    SubmissionTable,
    belongs_to,
    find_template,
    read_truth,
    table_from_listing,
    table_from_template,
)
from soups.files.table_writers import require_writer, write_pages
from soups.files.tables import read_table
from soups.pipeline.run.images import image_paths
from soups.pipeline.run.prediction_space import find_table
from soups.pipeline.run.run import Run, existing_run, latest_run, remove_leftovers, slug
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
from soups.pipeline.vote.answer_files import AnswerFiles, output_path
from soups.pipeline.vote.ensemble_spec import Ensemble, build_ensembles
from soups.pipeline.vote.table_votes import find_tables, vote_on_tables
from soups.runtime.launchers import require_launcher

logger = logging.getLogger(__name__)

_TEST_SETTINGS = ("test_location", "image_column", "label_column")
"""Settings that may differ from the run's: the location of the test images and the columns of their CSV."""
_VOTING_FLAGS = ("soft_voting", "weighted_ensemble", "hard_voting", "vote")


def predict(parsed: ParsedSettings[InferenceSettings]) -> None:
    """Write the predictions; prints the path of the table.

    Raises:
        UsageError: Settings contradict each other, or a model does not exist.
        DataError: A test image or a table is invalid; nothing is written then.
        PartialFailure: Some shards failed; the results of the others stay on disk.
    """
    settings = parsed.settings
    if settings.output is not None:
        require_writer(output_path(settings, None, ""))
    require_launcher(settings.launch)
    rule = _voting_rule(settings)
    if (tables := find_tables(settings, rule)) is not None:
        name = settings.run.name or latest_run(settings.run)
        run = existing_run(settings.run, name) if name else None
        vote_on_tables(settings, tables, run.folder if run is not None else None)
        return
    context = open_context(settings, parsed.names, may_differ=_TEST_SETTINGS if "test_location" in parsed.names else ())
    ensembles = build_ensembles(settings, context, rule)
    own = context
    if "test_location" in parsed.names:
        context = _with_test_images(context, settings, parsed.names)
    rows = set_rows(context.run.samples, SET)
    if rows.empty:
        raise DataError(
            f"run {context.run.name!r} has no test images",
            expected="a folder `test` in the data location",
            next_step="add --test-location DIR",
        )
    images, own_images = rows["image"].tolist(), set_rows(own.run.samples, SET)["image"].tolist()
    # A folder that holds the run's own test images, all of them, is its test set.
    others = context is not own and not (own_images and set(own_images) <= set(images))
    place = Path(settings.data.test_location or "") if others else None
    ids = images if place is None else _ids_below(place, images, image_paths(rows, context.run))
    submission = _submission_table(settings, context.run, images, ids, place, own_images)
    files = AnswerFiles(settings, context.run.folder, sorted(images), submission.ids)
    # An output folder of its own, as SageMaker sets it, tells answers apart.
    suffix = f"_{slug(place.absolute().stem, 'images')}" if place is not None and not settings.output_folder else ""
    remove_leftovers(context.run)
    truths = [_true_classes(settings, context, ensemble.space, images) for ensemble in ensembles]
    models = {path: space for ensemble in ensembles for path, space in ensemble.models.items()}
    shards = split_into_shards(context, settings.shard_size, len(models))
    failed = compute_missing(shards, models)
    failed_models = {each.task.path for each in failed}
    for ensemble, truth in zip(ensembles, truths, strict=True):
        if failed_models.isdisjoint(ensemble.models):
            path = files.path(f"{ensemble.name}{suffix}")
            _write_predictions(path, ensemble, shards, submission, truth)
            files.record(path)
            print(path, flush=True)
            if place is not None and is_image_name(place.name) and submission.template is None:
                answer = read_table(path).iloc[0]
                print(f"{answer[ID]}: {answer[ANSWER]} ({float(answer[CONFIDENCE]):.1%})")
            if settings.probabilities and submission.template is not None:
                beside = files.numbered(path.with_name(f"{path.stem}_probabilities{path.suffix}"))
                _write_predictions(beside, ensemble, shards, SubmissionTable(ids, all_probabilities=True), truth[:0])
                files.record(beside)
                print(beside, flush=True)
    if failed:
        raise error_of_failures(failed, len(models) * len(shards))


def _write_predictions(
    path: Path, ensemble: Ensemble, shards: Sequence[ShardContext], submission: SubmissionTable, truth: np.ndarray
) -> None:
    """Write the predictions of all shards as one table, with one shard in memory at a time."""
    right = 0

    def shard_predictions() -> Iterator[np.ndarray]:
        nonlocal right
        for shard in shards:
            result = ensemble.scores(shard, SET)
            right += int(np.count_nonzero(result.argmax(axis=1) == truth[shard.rows])) if len(truth) else 0
            yield submission.compact(result, ensemble.space)

    blocks: Iterable[np.ndarray] = shard_predictions()
    if submission.template is not None:
        logger.info("%s: %s", path.name, submission.form(ensemble.space).text)
    if submission.order is not None:
        blocks = reorder_rows(blocks, submission.order, path.parent, len(shards[0].run.samples))
    write_pages(path, submission.pages(blocks, ensemble.space))
    if len(truth):
        logger.info("%d of %d right (%.1f%%)", right, len(truth), 100 * right / len(truth))


def _voting_rule(settings: InferenceSettings) -> str | None:
    if settings.split and settings.hard_voting is None:
        raise UsageError("--split: only for --hard-voting", next_step="add --hard-voting")
    if settings.normalise != "probability" and settings.soft_voting is None:
        raise UsageError("--normalise is for --soft-voting", next_step="add --soft-voting")
    if settings.formula != "exponents" and settings.weighted_ensemble is None:
        raise UsageError("--formula is for --weighted-ensemble", next_step="add --weighted-ensemble")
    rules = [rule for rule in _VOTING_FLAGS if getattr(settings, rule) is not None]
    if settings.each and (rules or settings.output is not None):
        other = f"--{rules[0].replace('_', '-')}" if rules else "--output"
        raise UsageError(f"--each and {other}", expected="a table for each model", next_step="omit one of them")
    if len(rules) > 1:
        flags = " and ".join(f"--{rule.replace('_', '-')}" for rule in rules)
        raise UsageError(f"{flags} together", expected="one voting rule")
    return rules[0] if rules else None


def _with_test_images(context: RunContext, settings: InferenceSettings, names: frozenset[str]) -> RunContext:
    """Return the context with the test images of `--test-location`, if those are other ones."""
    run, location = context.run, settings.data.test_location
    recorded, joint = run.recorded.data, run.recorded.joint_space
    # With a limit, the run's table has only some of the images.
    same = location is not None and Path(location).resolve() == Path(recorded.test_location or "/").resolve()
    if location is None or (same and recorded.limit is None):
        return context
    test_settings = {name: getattr(settings.data, name) for name in _TEST_SETTINGS if name in names}
    test_data = recorded.model_copy(update={**test_settings, "limit": None})
    test = separate_test_samples(test_data, set((joint or run.space).names))
    test["group"] = test["group"].where(test["group"] != "", test["image"])
    if joint is not None:
        test["label"] = project_labels(test["label"], joint, run.space)
    others = run.samples[run.samples["split"] != "test"]
    table = pd.concat([others, test], ignore_index=True).fillna("").astype(str)
    return replace(context, run=replace(run, recorded=run.recorded.model_copy(update={"data": test_data}), table=table))


NO_TEMPLATE = "none"
"""Value of --sample-submission that fills no template."""


def _submission_table(
    settings: InferenceSettings, run: Run, images: list[str], ids: Sequence[str], place: Path | None, own: list[str]
) -> SubmissionTable:
    """Return the table to fill: a template, else the CSV that lists the test images, else a plain table.

    Args:
        settings: settings of the command.
        run: the run with the images to predict.
        images: their names in its table.
        ids: their ids in a plain table.
        place: where images are that are not the run's own; None: they are its own.
        own: names of the run's own test images.
    """
    data, template = run.recorded.data, None
    if settings.sample_submission is not None and settings.sample_submission != NO_TEMPLATE:
        template = Path(settings.sample_submission)
        if not template.is_file():
            raise UsageError(f"--sample-submission {template}: no such file", expected="a CSV file")
    elif settings.sample_submission is None and data.limit is not None:
        message = "run %s uses at most %d images of each set, so no template is filled; %s"
        logger.warning(message, run.name, data.limit, "--test-location DIR predicts all images of DIR")
    elif settings.sample_submission is None:
        template = find_template(data.locations, settings.data.test_location or data.test_location)
        # The file names of other images may be those of some of the template's.
        apart = place is not None and template is not None and template.parent not in (place, place.parent)
        if template is not None and (
            not belongs_to(template, images, wholly=apart) or (apart and belongs_to(template, own, wholly=False))
        ):
            logger.info("%s lists other images and is not used", template)
            template = None
    if template is not None:
        submission = table_from_template(template, images)
        logger.info("columns and order are those of %s", template)
        return submission
    location = Path(data.test_location or "")
    if location.is_file() and not is_image_name(location.name):
        return table_from_listing(location, images, data, settings.probabilities)
    return SubmissionTable(ids, all_probabilities=settings.probabilities)


def _ids_below(place: Path, images: list[str], paths: Iterable[Path]) -> list[str]:
    """Return ids for images at `--test-location`: their paths relative to that folder, or the name of the one image."""
    if place.is_file():
        return [place.name] if is_image_name(place.name) else images
    real = os.path.realpath(place)
    names = (os.path.relpath(os.path.realpath(path.parent) + os.sep + path.name, real) for path in paths)
    return [Path(name).as_posix() for name in names]


def _true_classes(settings: InferenceSettings, context: RunContext, space: LabelSpace, images: list[str]) -> np.ndarray:
    """Return the true classes, (N,) int64; an empty array if any is unknown."""
    labels = context.labels(SET, space)
    if settings.ground_truth is not None:
        labels = space.encode(read_truth(find_table(Path(settings.ground_truth), "--ground-truth"), images, space))
    return labels if (labels >= 0).all() else labels[:0]
