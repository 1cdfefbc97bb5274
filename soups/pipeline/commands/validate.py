"""The command `validation`: shows which classes and images a model gets wrong on its run's validation set."""

import logging
from pathlib import Path
from typing import Any

from soups.cli.flags import ParsedSettings
from soups.core.errors import DataError, UsageError
from soups.pipeline.commands.validate_tables import validate_tables
from soups.pipeline.commands.validation_report import report_predictions
from soups.pipeline.explain.wrong_maps import draw_wrong_maps, parse_method
from soups.pipeline.run.model_files import find_model, run_folder_of
from soups.pipeline.score.choice import default_model
from soups.pipeline.score.context import RunContext, open_context
from soups.pipeline.settings.commands import ValidationSettings
from soups.report.answers import LabelledPredictions

logger = logging.getLogger(__name__)


def validate(parsed: ParsedSettings[ValidationSettings]) -> None:
    """Print scores and confusion matrices of the class and each factor; draw them and the wrong images.

    Raises:
        UsageError: Settings contradict each other, or the model does not exist.
        DataError: Validation images have no labels, the model has other classes, or a table is invalid.
    """
    method = parse_method(parsed.settings.explain)
    if not _validates_tables(parsed.settings):
        _validate_model(parsed, method)
    elif method is not None:
        raise UsageError("--explain: tables have no model to explain", next_step="give --model-name")
    else:
        validate_tables(parsed)


def _validates_tables(settings: ValidationSettings) -> bool:
    """Return whether to validate prediction tables; folders from environment variables do not count."""
    tables = settings.predictions or ()
    files = [name for name in tables if not Path(name).is_dir()]
    if settings.model_name is not None:
        if files:
            raise UsageError("--model-name and --predictions", expected="one of them", found=", ".join(files))
        return False
    if files and settings.ground_truth is None:
        raise UsageError("--predictions without --ground-truth", expected="a CSV of the true classes, or its folder")
    return bool(tables) and settings.ground_truth is not None


def _validate_model(parsed: ParsedSettings[ValidationSettings], method: str | None) -> None:
    settings = parsed.settings
    context, path = open_context_of_model(parsed)
    _warn_ignored_settings(parsed, context)
    run, space = context.run, context.space_of(path)
    outputs, labels = context.probabilities(path, ["val"], space)["val"], context.labels("val", space)
    if (labels < 0).any():
        raise DataError(f"run {run.name!r}: validation images without a label", expected="labels to validate against")
    predictions = LabelledPredictions(
        labels, outputs.argmax(axis=1), context.groups("val"), space, outputs.max(axis=1), outputs
    )
    images, limit = context.open_set("val", run.card_of(path)).images, settings.images
    maps = draw_wrong_maps(context, path, predictions, images, method, limit) if method is not None else ({}, "")
    folders = run.folder / "output", run.folder / "figures"
    report_predictions(predictions, path.stem, "validation images", folders, images.__getitem__, limit, maps)


def open_context_of_model(parsed: ParsedSettings[Any]) -> tuple[RunContext, Path]:
    """Return the run that a model belongs to (not the latest run) and the model's checkpoint.

    Raises:
        UsageError: The run or the model does not exist.
    """
    settings = parsed.settings
    path = Path(settings.model_name) if settings.model_name is not None else None
    folder = run_folder_of(path) if path is not None and path.is_file() else None
    if path is not None and folder is not None:
        return _open_run_folder(parsed, folder), path
    context = open_context(settings, parsed.names, may_differ={"split_seed"})
    path = find_model(settings.model_name, context.run, settings.run) if settings.model_name else default_model(context)
    folder = run_folder_of(path)
    if folder is not None and folder != context.run.folder.resolve():
        context = _open_run_folder(parsed, folder)
    return context, path


def _open_run_folder(parsed: ParsedSettings[Any], folder: Path) -> RunContext:
    location = {"name": folder.name, "runs_folder": str(folder.parent)}
    settings = parsed.settings.model_copy(update={"run": parsed.settings.run.model_copy(update=location)})
    return open_context(settings, parsed.names, may_differ={"split_seed"})


def _warn_ignored_settings(parsed: ParsedSettings[ValidationSettings], context: RunContext) -> None:
    run_seed, seed = context.run.recorded.data.split_seed, parsed.settings.data.split_seed
    if ("split_seed" in parsed.names and seed != run_seed) or parsed.settings.random_seed is not None:
        message = "seeds have no effect here: a model is validated on its run's own split (--split-seed %d)"
        logger.info(message, run_seed)
    if parsed.settings.ground_truth is not None:
        logger.info("--ground-truth is for --predictions: a model is validated on its run's validation images")
