"""The command `main`: inspects, evaluates, makes soups, compares and plots, in this order, as the flags request."""

import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from soups.cli.flags import ParsedSettings
from soups.core.errors import DataError, UsageError
from soups.models.download import download_models
from soups.pipeline.compare.choose import make_choice
from soups.pipeline.compare.report import plot_original, plot_run, print_comparison
from soups.pipeline.run.import_pool import open_or_import_pool
from soups.pipeline.run.model_files import find_model
from soups.pipeline.run.run import Run
from soups.pipeline.score.class_order import warn_if_misordered
from soups.pipeline.score.context import RunContext, open_context
from soups.pipeline.score.evaluate import evaluate_individuals, pool_paths
from soups.pipeline.settings.commands import MainSettings
from soups.pipeline.soup.ingredients import select_ingredients
from soups.pipeline.soup.inspect import inspect
from soups.pipeline.soup.make import SoupRequest, make_soup
from soups.pipeline.soup.rebuild import rebuild
from soups.pipeline.train.learning_curves import draw_learning_curves
from soups.recipes.registry import RECIPES
from soups.recipes.shared.options import list_recipes, parse_options

logger = logging.getLogger(__name__)


def run_main(parsed: ParsedSettings[MainSettings]) -> None:
    """Do everything that the flags request.

    Raises:
        UsageError: No action is requested, or an option does not suit its recipe.
    """
    settings = parsed.settings
    recipes = _requested_recipes(settings)
    options = parse_options(recipes, settings.soup_options or ())
    plots_run = settings.plot and settings.results is None
    if settings.allow_votes and not settings.choose:
        raise UsageError("--allow-votes without --choose", next_step="add --choose")
    judging = settings.eval_individual_models or settings.choose or settings.report or plots_run
    needs_run = bool(recipes) or settings.inspect or judging or settings.learning_curves
    if not (needs_run or settings.plot or settings.download_models or settings.list_recipes or settings.rebuild):
        raise UsageError(
            "nothing to do",
            expected="one or more of --inspect --eval-individual-models --uniform-soup --greedy-soup --soup NAME "
            "--rebuild SOUP --choose --report --plot --learning-curves",
            next_step="python main.py --help",
        )
    _run_independent_actions(parsed)
    if not needs_run:
        return
    soups_are_scored = bool(recipes) and (settings.scores or any(RECIPES[recipe].needs_judge for recipe in recipes))
    scoring = settings.inspect or judging or soups_are_scored
    context = open_context(open_or_import_pool(parsed), parsed.names, scoring=scoring)
    if settings.inspect:  # Inspect first: a foreign model that does not belong to the pool may not be scorable.
        inspect(context, _start_of(context, settings))
        if not (recipes or judging or settings.learning_curves):
            return
    if scoring:
        warn_if_misordered(context)
    if settings.eval_individual_models:
        lines = evaluate_individuals(context)
        logger.info("%s: %d fine-tunes", context.run.individual_results, len(lines))
    if recipes:
        _make_soups(context, parsed, options)
    if settings.choose:
        # Without new soups, --metric is only what is chosen by; the soups stay those of the run's metric.
        metric = context.evaluation.metric if recipes else context.run.recorded.metric
        own = replace(context, evaluation=context.evaluation.model_copy(update={"metric": metric}))
        measure = context.evaluation.metric if "metric" in parsed.names else "log_loss"
        text = make_choice(own, measure, votes=settings.allow_votes)
        if not settings.report:  # The report ends with it.
            print(text)
    if settings.report:
        print_comparison(context)
    if settings.learning_curves or plots_run:
        _learning_curves(context, settings)
    if plots_run:
        plot_run(context)


def _learning_curves(context: RunContext, settings: MainSettings) -> None:
    each = settings.learning_curves
    if not draw_learning_curves(context.run, context.evaluation.metric, each=each) and each:
        raise DataError(
            f"run {context.run.name!r}: no fine-tune has a log of its training",
            expected=f"{context.run.folder / 'logs' / 'training'}/<model>.jsonl, which finetune.py writes",
            next_step="omit --learning-curves: imported models have none",
        )


def _run_independent_actions(parsed: ParsedSettings[MainSettings]) -> None:
    """Do the actions that need no pool of models, or find their own."""
    settings = parsed.settings
    if settings.list_recipes:
        print(list_recipes())
    if settings.download_models:
        if settings.run.model_location is None:
            raise UsageError("--download-models needs a folder", next_step="add --model-location DIR")
        download_models(Path(settings.run.model_location), settings.download_url)
    if settings.rebuild:
        rebuild(settings, parsed.names, lambda run: _context_of_run(parsed, run))
    if settings.plot and settings.results is not None:
        plot_original(Path(settings.results), settings.val_set, settings.test_set)


def _requested_recipes(settings: MainSettings) -> list[str]:
    """Return the requested recipes without repetitions.

    Raises:
        UsageError: `--soup-name` is given with several recipes.
    """
    names = ["uniform"] * settings.uniform_soup + ["greedy"] * settings.greedy_soup + list(settings.soup or ())
    recipes = list(dict.fromkeys(names))
    if settings.soup_name is not None and len(recipes) != 1:
        found = ", ".join(recipes) or "none"
        raise UsageError("--soup-name: one name for one soup", expected="one recipe", found=found)
    return recipes


def _context_of_run(parsed: ParsedSettings[MainSettings], run: Run) -> RunContext:
    run_settings = parsed.settings.run.model_copy(update={"name": run.name, "runs_folder": str(run.folder.parent)})
    return open_context(parsed.settings.model_copy(update={"run": run_settings}), parsed.names, scoring=False)


def _start_of(context: RunContext, settings: MainSettings) -> Path | None:
    """Return the checkpoint of `--start`, if that is given."""
    return None if settings.start is None else find_model(settings.start, context.run, settings.run)


def _acceptance(parsed: ParsedSettings[MainSettings]) -> dict[str, Any]:
    """Return greedy's rule where the user names one."""
    settings = parsed.settings
    if settings.strict:
        return {"accept": "better"}
    if settings.accept == "significant":
        return {"accept": settings.accept, "level": settings.significance}
    return {"accept": settings.accept} if "accept" in parsed.names else {}


def _make_soups(
    context: RunContext, parsed: ParsedSettings[MainSettings], options: Mapping[str, dict[str, Any]]
) -> None:
    """Make a soup of `--ingredients` by each recipe, with its options."""
    settings = parsed.settings
    run, start = context.run, _start_of(context, settings)
    names = select_ingredients(run, settings.run, settings.ingredients, start)
    if settings.ingredients is not None or len(names) != len(pool_paths(run)):
        context = replace(context, run=replace(run, only=frozenset(names)))
    for recipe, recipe_options in options.items():
        if recipe == "greedy":
            recipe_options = {**_acceptance(parsed), **recipe_options}
        request = SoupRequest(
            recipe,
            recipe_options,
            scores=settings.scores,
            batchnorm=settings.batchnorm,
            evaluations=settings.budget_evaluations,
            minutes=settings.budget_minutes,
            at_once=settings.at_once,
            start=start,
            name=settings.soup_name,
        )
        make_soup(context, request)
