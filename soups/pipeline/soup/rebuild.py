"""Makes soups again from their cards and the files of their ingredients: the same bytes, or an error."""

import json
import shutil
from collections.abc import Callable, Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from soups.checkpoints.card import FORMAT_VERSION, Card, read_card
from soups.checkpoints.checkpoint import SUFFIX, write_checkpoint
from soups.core.errors import DataError, PartialFailure, UsageError, UserError
from soups.files.atomic import atomic_write, replace_atomically, sha256_of
from soups.pipeline.run.model_files import find_model
from soups.pipeline.run.open_run import open_run
from soups.pipeline.run.run import Run, existing_run, latest_run
from soups.pipeline.settings.commands import MainSettings, RunSettings
from soups.pipeline.soup.ingredient_index import IngredientIndex
from soups.recipes.shared.pool import Pool

if TYPE_CHECKING:
    from soups.pipeline.score.context import RunContext


def rebuild(settings: MainSettings, given: Collection[str], context_of: "Callable[[Run], RunContext]") -> None:
    """Make the soups of `--rebuild` again; print a line for each.

    A soup whose bytes agree is left alone. A differing soup is replaced; its former bytes are renamed beside it.

    Args:
        settings: settings of the command.
        given: names of the settings that the user gave.
        context_of: returns the context of a run, for soups that need a judge.

    Raises:
        UsageError: no such soup.
        DataError: a file is not a soup, or an ingredient is missing or has changed; names it.
        PartialFailure: some of several soups failed; the others are made.
    """
    failures: list[str] = []
    names = settings.rebuild or ()
    for name in names:
        try:
            path, run = _find_soup(name, settings, given)
            print(f"{path}: {_remake_soup(path, run, settings, context_of)}")
        except UserError as error:
            if len(names) == 1:
                raise
            failures.append(str(error))
    if failures and len(failures) < len(names):
        problem = f"{len(failures)} of {len(names)} soups could not be made again"
        raise PartialFailure("\n  ".join([problem, *failures]))
    if failures:
        raise DataError("\n".join(failures))


def _find_soup(name: str, settings: MainSettings, given: Collection[str]) -> tuple[Path, Run | None]:
    """Return the soup's file, and its run, if any."""
    path = Path(name)
    if path.is_file() and not settings.run.name:
        # A soup belongs to its own run, whichever run was the last.
        folder = path.resolve().parent.parent
        own = existing_run(RunSettings(runs_folder=str(folder.parent)), folder.name)
        latest = latest_run(settings.run)
        return path, own or (existing_run(settings.run, latest) if latest else None)
    if path.is_file() and existing_run(settings.run, settings.run.name or "") is None:
        return path, None
    run = open_run(settings, given)
    return find_model(name, run, settings.run), run


def _remake_soup(path: Path, run: Run | None, settings: MainSettings, context_of: "Callable[[Run], RunContext]") -> str:
    """Make one soup again and return the outcome in words."""
    from soups.recipes.registry import RECIPES
    from soups.recipes.shared.remake import remake

    card, text = _card_of(path)
    soup = card.soup
    if soup is None:
        raise DataError(f"{path}: not a soup", expected="a soup's checkpoint", found=f"a {card.kind}")
    index = IngredientIndex(path, run, settings)
    ingredients = index.ingredients(soup.ingredients)
    recipe = RECIPES.get(soup.recipe)
    # The cards of checkpoints from other tools name no start; the request records the one that the user named.
    origin = card.start or str(soup.request.get("start", ""))
    start = index.start(origin, settings.start) if recipe is not None and recipe.needs_start else None
    judge, statistics = None, soup.options.get("batchnorm", {}).get("statistics")
    own_statistics = statistics == "recompute" and len(soup.ingredients) > 1
    if own_statistics or (recipe is not None and recipe.remakes_with_judge):
        if run is None:
            raise UsageError(
                f"{path}: takes images of its run to be made again",
                expected="the run that it was made in",
                next_step="add --name RUN",
            )
        from soups.pipeline.soup.judge import LazyJudge

        pool = Pool(ingredients, start), next(iter(run.finetunes().values()))
        judge = LazyJudge(context_of(run), pool, statistics)
    coefficients = [part.coefficient for part in soup.ingredients]
    state = remake(soup.recipe, ingredients, coefficients, soup.options, start=start, judge=judge)
    if judge is not None and own_statistics:
        state = judge.with_batchnorm(state)
    return _write_if_different(path, state, text)


def _card_of(path: Path) -> tuple[Card, str]:
    """Return the card of a soup, and its text, so that a soup of an older version with fewer fields keeps its bytes.

    The header is enough, also for a file that is truncated behind it.

    Raises:
        DataError: the header is damaged, or has no card.
    """
    damage = None
    try:
        read_card(path)
    except DataError as error:
        damage = error
    try:
        with path.open("rb") as stream:
            text = json.loads(stream.read(int.from_bytes(stream.read(8), "little")))["__metadata__"]["card"]
        card = Card.model_validate_json(text)
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError, ValidationError) as error:
        raise damage or DataError(f"{path}: a checkpoint without a card", expected="a soup that soups made") from error
    if damage is not None and card.format != FORMAT_VERSION:
        raise damage
    return card, text


def _write_if_different(path: Path, state: Any, card: str) -> str:
    """Write a soup where its bytes differ and return the outcome in words."""
    fresh = path.with_name(f".{path.stem}.rebuilt{SUFFIX}")
    try:
        digest = write_checkpoint(fresh, state, card)
        if digest == sha256_of(path):
            return f"identical (SHA-256 {digest})"
        old = path.with_name(f"{path.name}.old")
        with atomic_write(old) as copy:
            shutil.copyfile(path, copy)
        replace_atomically(fresh, path)
    finally:
        fresh.unlink(missing_ok=True)
    return f"had other bytes; made again (SHA-256 {digest}), the old ones are in {old}"
