"""What `main.py` does: inspect, evaluate, make soups, compare and plot, as asked for, in this order."""

import logging
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from soups import cli
from soups.errors import UsageError, unknown_name
from soups.evaluation.settings import EvaluationSettings
from soups.metrics import METRICS
from soups.pipeline.adopt import adopt
from soups.pipeline.evaluate import Bench, evaluate_individuals
from soups.pipeline.run import open_run, say_if_flattering
from soups.pipeline.settings import CommandSettings, MainSettings
from soups.recipes import UNJUDGED

if TYPE_CHECKING:
    from soups.pipeline.soup import Order

logger = logging.getLogger(__name__)


def open_bench(
    settings: CommandSettings,
    given: Collection[str],
    may_differ: Collection[str] = (),
    *,
    scoring: bool = True,
) -> Bench:
    """The run that a command means, with all that scoring its models needs.

    Args:
        settings: of the command.
        given: names of the settings that the user gave.
        may_differ: settings that mean something else in this command.
        scoring: something will be scored, so say where that flatters; otherwise the samples table is not read.

    Raises:
        UsageError: no such run, a setting that differs from the recorded one, or an unknown metric.
    """
    run = open_run(settings, given, may_differ)
    if scoring:
        say_if_flattering(run)
    metric = settings.evaluation.metric if "metric" in given else run.recorded.metric
    if metric not in METRICS:
        raise unknown_name("metric", metric, METRICS)
    evaluation = EvaluationSettings.model_validate({**settings.evaluation.model_dump(), "metric": metric})
    return Bench(run, run.runtime(settings.runtime), evaluation, settings.cache)


def cook(given: cli.Given[MainSettings]) -> None:
    """Do everything that was asked for.

    Raises:
        UsageError: nothing was asked for.
    """
    settings = given.settings
    recipes = ["uniform"] * settings.uniform_soup + ["greedy"] * settings.greedy_soup + list(settings.soup or ())
    wanted = bool(recipes) or settings.inspect or settings.eval_individual_models or settings.report
    asked = wanted or settings.plot
    if not asked and not settings.download_models:
        raise UsageError(
            "nothing to do",
            expected="one or more of --inspect --eval-individual-models --uniform-soup --greedy-soup --soup NAME --report "
            "--plot",
            next_step="python main.py --help",
        )
    if settings.download_models:
        _download(settings)
    if settings.plot and settings.results is not None:
        from soups.pipeline.compare import plot_original

        plot_original(Path(settings.results), settings.val_set, settings.test_set)
        asked = wanted
    if not asked:
        return
    scoring = settings.inspect or settings.eval_individual_models or settings.report or settings.plot
    scoring = scoring or settings.scores or not set(recipes) <= set(UNJUDGED)
    bench = open_bench(adopt(given), given.names, scoring=scoring)
    if settings.inspect:  # First, because a model that does not belong may be one that cannot be scored.
        from soups.pipeline.inspection import inspect

        inspect(bench)
    if settings.eval_individual_models:
        lines = evaluate_individuals(bench)
        logger.info("%s: %d fine-tunes", bench.run.individual_results, len(lines))
    if recipes:
        from soups.pipeline.soup import make_soup

        for recipe in dict.fromkeys(recipes):
            make_soup(bench, _order(settings, recipe))
    if settings.report:
        from soups.pipeline.compare import print_comparison

        print_comparison(bench)
    if settings.plot and settings.results is None:
        from soups.pipeline.compare import plot_run

        plot_run(bench)


def _order(settings: MainSettings, recipe: str) -> "Order":
    from soups.pipeline.soup import Order

    options: dict[str, Any] = {}
    if recipe == "greedy":
        options["accept"] = "better" if settings.strict else settings.accept
        if options["accept"] == "significant":
            options["level"] = settings.significance
    return Order(
        recipe,
        options,
        scores=settings.scores,
        batchnorm=settings.batchnorm,
        evaluations=settings.budget_evaluations,
        minutes=settings.budget_minutes,
        at_once=settings.at_once,
    )


def _download(settings: MainSettings) -> None:
    from soups.models.download import download_models

    if settings.run.model_location is None:
        raise UsageError("--download-models needs a folder", next_step="add --model-location DIR")
    download_models(Path(settings.run.model_location), settings.download_url)
