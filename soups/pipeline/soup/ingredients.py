"""Selects the ingredients of a soup by name, and finds the start that they share."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

from soups.checkpoints.card import Card
from soups.checkpoints.checkpoint import SUFFIX
from soups.core.errors import DataError, UsageError
from soups.pipeline.run.model_files import find_model
from soups.pipeline.run.run import Run
from soups.pipeline.score.evaluate import pool_paths
from soups.pipeline.settings.commands import RunSettings

logger = logging.getLogger(__name__)


def select_ingredients(
    run: Run, settings: RunSettings, names: Sequence[str] | None, start: Path | None = None
) -> dict[str, Path]:
    """Return name → file of the models that a soup may contain, in the order of the run.

    Args:
        run: the run.
        settings: the folders in which models are searched.
        names: the wanted models, as `find_model` takes them; None: all models of the run.
        start: the start; where it is a file of the pool it is left out, with a notice.

    Raises:
        UsageError: a name matches no model of the run, or two names match the same model.
        DataError: the run has no models.
    """
    paths = pool_paths(run)
    picked: dict[str, str] = {}
    for name in names or ():
        model = _resolve_name(name, paths, run, settings)
        if model in picked:
            found = f"{picked[model]} and {name}"
            raise UsageError(f"--ingredients: {model} is named twice", expected="each model once", found=found)
        picked[model] = name
    members = {name: path for name, path in paths.items() if names is None or name in picked}
    for name, path in tuple(members.items()):
        if start is not None and path.resolve() == start.resolve():
            logger.info("%s is the start, and so no ingredient", name)
            del members[name]
    if not members:
        raise UsageError("a soup of no ingredients", expected="at least one model beside the start")
    return members


def _resolve_name(name: str, paths: Mapping[str, Path], run: Run, settings: RunSettings) -> str:
    """Return the name of the model that a word from the command line means."""
    path = find_model(name, run, settings).resolve()
    models = [model for model, own in paths.items() if own.resolve() == path]
    if not models:
        raise UsageError(
            f"--ingredients {name}: not one of the models that soups of run {run.name!r} are made of",
            expected=f"names among {', '.join(paths)}",
        )
    return models[0]


def find_start(run: Run, cards: Mapping[str, Card], given: Path | None = None) -> tuple[Path | None, str]:
    """Return the file of the start that models share.

    Without `given`, this is the file whose hash the cards name: the run's start, or a file beside the models.

    Args:
        run: the run.
        cards: name → card of the models.
        given: the file that the user named.

    Returns:
        The file; or None and, where the models have different starts, a text that names two of them.

    Raises:
        DataError: the given file does not exist, or a model's card names another start; names the model.
    """
    named = {name: card.start for name, card in cards.items() if card.start}
    if given is not None:
        digest = run.sha256(given)
        for name, start in named.items():
            if start != digest:
                raise DataError(
                    f"--start {given}: not the start that {name} was fine-tuned from",
                    expected=f"SHA-256 {start}, as its card says",
                    found=digest,
                    next_step="give the start of these models, or name the models of this start with --ingredients",
                )
        return given, ""
    one = next(iter(named), "")
    other = next((name for name in named if named[name] != named[one]), "")
    if other:
        short = {name: f"{named[name][:12]}…" for name in (one, other)}
        return None, f"{one} from {short[one]}, {other} from {short[other]} (SHA-256 of the start)"
    if len(named) < len(cards):
        return None, ""
    beside = sorted(run.models.glob(f"*_start{SUFFIX}"))
    files = [path for path in dict.fromkeys([run.start, *beside]) if path.is_file()]
    return next((path for path in files if run.sha256(path) == named[one]), None), ""
