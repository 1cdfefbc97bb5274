"""What `validation.py` does: which classes and images a model gets wrong on its run's validation set."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from soups.cli import flags as cli
from soups.core.errors import DataError, UsageError
from soups.data.samples import set_rows
from soups.files.atomic import write_table
from soups.pipeline.commands.validation_figures import class_table_frame, draw_validation_figures
from soups.pipeline.explain.wrong_maps import draw_wrong_maps, parse_method
from soups.pipeline.run.images import evaluation_set
from soups.pipeline.run.model_files import find_model, run_folder_of
from soups.pipeline.score.context import RunContext, open_context
from soups.pipeline.score.votes import default_model
from soups.pipeline.settings.commands import OneModelSettings, ValidationSettings
from soups.report.answers import LabelledPredictions
from soups.report.validation import validation_text

if TYPE_CHECKING:
    pass

logger = logging.getLogger(__name__)

OneModel = TypeVar("OneModel", bound=OneModelSettings)


def validate(given: cli.ParsedSettings[ValidationSettings]) -> None:
    """Print scores and confusion matrices of the class and of each factor, and draw them and the wrong images.

    Raises:
        UsageError: settings that contradict each other, or a name that is no model.
        DataError: the validation images have no labels, the model has other classes, or a table is not what it should
            be.
    """
    method = parse_method(given.settings.explain)
    if _means_tables(given.settings):
        if method is not None:
            raise UsageError("--explain: tables have no model to explain", next_step="give --model-name")
        from soups.pipeline.commands.validate_tables import validate_tables

        validate_tables(given)
    else:
        _validate_model(given, method)


def _means_tables(settings: ValidationSettings) -> bool:
    """Whether tables are to be validated; folders may stand in the environment for another command."""
    tables = settings.predictions or ()
    files = [name for name in tables if not Path(name).is_dir()]
    if settings.model_name is not None:
        if files:
            raise UsageError("--model-name and --predictions", expected="one of them", found=", ".join(files))
        return False
    if files and settings.ground_truth is None:
        raise UsageError("--predictions without --ground-truth", expected="a CSV of the true classes, or its folder")
    return bool(tables) and settings.ground_truth is not None


def _validate_model(given: cli.ParsedSettings[ValidationSettings], method: str | None) -> None:
    settings = given.settings
    context, path = open_context_of_model(given)
    _tell_without_effect(given, context)
    run, space = context.run, context.space_of(path)
    outputs, labels = context.probabilities(path, ["val"], space)["val"], context.labels("val", space)
    if (labels < 0).any():
        raise DataError(f"run {run.name!r}: validation images without a label", expected="labels to validate against")
    answers = LabelledPredictions(labels, outputs.argmax(axis=1), context.groups("val"), space, outputs.max(axis=1))
    print(validation_text(path.stem, answers))
    write_table(run.folder / "output" / f"{path.stem}_classes.csv", class_table_frame(answers))
    preprocessing = run.card_of(path).preprocessing
    images = evaluation_set("val", set_rows(run.samples, "val"), run, preprocessing, settings.cache).images
    maps = draw_wrong_maps(context, path, answers, images, method, settings.images) if method is not None else ({}, "")
    figures = run.folder / "figures"
    draw_validation_figures(answers, figures, path.stem, "validation images", images.__getitem__, settings.images, maps)


def open_context_of_model(given: cli.ParsedSettings[OneModel]) -> tuple[RunContext, Path]:
    """The model, and the run that it belongs to: it is validated on that run's split, whichever is the latest.

    Raises:
        UsageError: no such run or model.
    """
    settings = given.settings
    if settings.model_name is not None and Path(settings.model_name).is_file():
        folder = run_folder_of(Path(settings.model_name))
        if folder is not None:
            return _bench_in(given, folder), Path(settings.model_name)
    context = open_context(settings, given.names, may_differ={"split_seed"})
    path = find_model(settings.model_name, context.run, settings.run) if settings.model_name else default_model(context)
    folder = run_folder_of(path)
    if folder is not None and folder != context.run.folder.resolve():
        context = _bench_in(given, folder)
    return context, path


def _bench_in(given: cli.ParsedSettings[OneModel], folder: Path) -> RunContext:
    where = {"name": folder.name, "runs_folder": str(folder.parent)}
    settings = given.settings.model_copy(update={"run": given.settings.run.model_copy(update=where)})
    return open_context(settings, given.names, may_differ={"split_seed"})


def _tell_without_effect(given: cli.ParsedSettings[ValidationSettings], context: RunContext) -> None:
    own, seed = context.run.recorded.data.split_seed, given.settings.data.split_seed
    if ("split_seed" in given.names and seed != own) or given.settings.random_seed is not None:
        logger.info("seeds have no effect here: a model is validated on its run's own split (--split-seed %d)", own)
    if given.settings.ground_truth is not None:
        logger.info("--ground-truth is for --predictions: a model is validated on its run's validation images")
