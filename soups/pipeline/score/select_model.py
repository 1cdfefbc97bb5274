"""Selects the model of a command, and the run that it belongs to, if any."""

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

from soups.checkpoints.card import Card, read_card
from soups.checkpoints.checkpoint import SUFFIX
from soups.pipeline.run.model_files import find_model, load_model, run_folder_of
from soups.pipeline.run.run import Run, existing_run
from soups.pipeline.score.choice import default_model
from soups.pipeline.score.context import open_context
from soups.pipeline.settings.commands import CommandSettings

if TYPE_CHECKING:
    from soups.models.classifier import Classifier


def select_model(settings: CommandSettings, given: Collection[str], name: str | None) -> tuple[Path, Run | None]:
    """Returns the file of a model, and the run whose models include it.

    Args:
        settings: settings of the command.
        given: names of the settings that the user gave.
        name: a path, or a model's name; None: the recorded choice; without one the greedy soup, else the best model.

    Returns:
        The run is None for a checkpoint with a card that belongs to no run.

    Raises:
        UsageError: the run or the model does not exist.
    """
    if name is not None and Path(name).is_file() and Path(name).suffix == SUFFIX and read_card(Path(name)) is not None:
        return Path(name), _run_of_model(Path(name), settings)
    context = open_context(settings, given, scoring=False)
    path = default_model(context) if name is None else find_model(name, context.run, settings.run)
    return path, _run_of_model(path, settings) or context.run


def _run_of_model(path: Path, settings: CommandSettings) -> Run | None:
    folder = run_folder_of(path)
    if folder is None:
        return None
    return existing_run(settings.run.model_copy(update={"runs_folder": str(folder.parent)}), folder.name)


def load_selected(path: Path, run: Run | None) -> "tuple[Classifier, Card]":
    """Returns a model (float32, on the CPU, in evaluation mode) and its card.

    Raises:
        DataError: the file is damaged.
    """
    from soups.models.load import load_classifier

    return load_classifier(path) if run is None else load_model(run, path)
