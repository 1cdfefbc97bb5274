"""The command study: repeats the experiment of a run over other splits and pools the gains."""

import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from soups.cli.flags import ParsedSettings
from soups.core.errors import UsageError, unknown_name
from soups.data.settings import DataSettings
from soups.files.atomic import write_table, write_text
from soups.models.settings import ModelSettings
from soups.pipeline.compare.report import shift_sets
from soups.pipeline.compare.rows import SOUP_VOTED, find_soups, request_of_soup, rows_of_run
from soups.pipeline.run.create import create_run
from soups.pipeline.run.refused_start import discard_refused_runs
from soups.pipeline.score.context import RunContext, open_context
from soups.pipeline.settings.commands import FinetuneSettings, RunSettings
from soups.pipeline.settings.tools import StudySettings
from soups.pipeline.soup.make import SoupRequest, make_soup
from soups.pipeline.train.finetune import train_all
from soups.pipeline.train.plan import Task, parse_indices, plan
from soups.recipes.registry import RECIPES
from soups.report import comparison
from soups.report.study import MEASURES, format_study, markdown_study, pool_splits
from soups.training.settings import TrainingSettings

logger = logging.getLogger(__name__)

_PAIR = f"{SOUP_VOTED} soup + best single"
_RECORDED = frozenset(DataSettings.model_fields) | frozenset(ModelSettings.model_fields) | {"precision", "threads"}


def study(parsed: ParsedSettings[StudySettings]) -> None:
    """Train, make soups and compare on every split; print the pooled table and write it beside the runs.

    Raises:
        UsageError: invalid seeds, an unknown recipe, or a run of checkpoints from other tools.
        PartialFailure: some fine-tunes failed; the others are kept.
    """
    with discard_refused_runs(parsed.settings.run):
        _study(parsed)


def _study(parsed: ParsedSettings[StudySettings]) -> None:
    settings = parsed.settings
    base = open_context(settings, parsed.names)
    if base.run.recorded.foreign is not None:
        raise UsageError(
            f"run {base.run.name!r} is a pool of checkpoints made elsewhere: a study would have to train them again",
            expected="a run that finetune.py made",
            next_step="name one with --name",
        )
    requests, repetitions = _soup_requests(base, settings.soup), _repetitions(base, settings)
    train_all([task for each in repetitions for task in _unfinished_tasks(*each, base, settings)], settings.launch)
    splits = {}
    for context, _ in repetitions:
        for request in requests:
            make_soup(context, request)
        splits[context.run.name] = _comparison_rows(context, [request.recipe for request in requests])
    rows = pool_splits(list(splits.values()))
    _write_results(Path(settings.run.runs_folder) / f"{base.run.name}-study", splits, rows)
    print(f"study of run {base.run.name}: {', '.join(splits)}", format_study(rows), sep="\n")


def _soup_requests(base: RunContext, wanted: Sequence[str] | None) -> list[SoupRequest]:
    """Return the soup requests, with the options of the original's soups."""
    made = find_soups(base)
    recipes = list(dict.fromkeys(wanted if wanted is not None else made or ("uniform", "greedy")))
    for recipe in recipes:
        if recipe not in RECIPES:
            raise unknown_name("recipe", recipe, RECIPES)
    return [request_of_soup(recipe, made[recipe][1]) if recipe in made else SoupRequest(recipe) for recipe in recipes]


def _repetitions(base: RunContext, settings: StudySettings) -> list[tuple[RunContext, int | None]]:
    """Return a run for each split seed: the original where it has that seed, else one beside it, made if missing.

    Returns:
        Contexts, each with the root seed of its training; None: the original's seed plus the split seed.

    Raises:
        UsageError: invalid seeds.
    """
    splits = parse_indices(settings.split_seeds, "--split-seeds")
    seeds: Sequence[int | None] = [None] * len(splits)
    if settings.random_seeds is not None:
        seeds = parse_indices(settings.random_seeds, "--random-seeds")
        if len(seeds) != len(splits):
            expected = f"{len(splits)} seeds, one for each split"
            raise UsageError("--random-seeds", expected=expected, found=settings.random_seeds)
    contexts, runs_by_split = [], defaultdict(list)
    for split_seed, seed in zip(splits, seeds, strict=True):
        run = base.run
        if split_seed != run.recorded.data.split_seed or seed is not None:
            name = f"{run.name}-s{split_seed}" + ("" if seed is None else f"-r{seed}")
            run = create_run(_finetune_settings(base, settings, name, split_seed), _RECORDED)
        contexts.append(replace(base, run=run))
        runs_by_split[run.fingerprints[1]].append(run.name)
    for names in runs_by_split.values():
        if len(names) > 1:  # Few groups, or a `val/` folder.
            logger.warning("%s: the same split; they differ in the seed of training alone", ", ".join(names))
    return list(zip(contexts, seeds, strict=True))


def _finetune_settings(base: RunContext, settings: StudySettings, name: str, split_seed: int) -> FinetuneSettings:
    """Return the settings of the original run with another split."""
    recorded = base.run.recorded
    return FinetuneSettings(
        run=RunSettings(name=name, runs_folder=settings.run.runs_folder),
        data=recorded.data.model_copy(update={"split_seed": split_seed}),
        cache=settings.cache,
        model=recorded.model,
        evaluation=settings.evaluation.model_copy(update={"metric": recorded.metric}),
        runtime=settings.runtime.model_copy(update={"precision": recorded.precision, "threads": recorded.threads}),
    )


def _unfinished_tasks(context: RunContext, seed: int | None, base: RunContext, settings: StudySettings) -> list[Task]:
    """Return the fine-tunes of a repetition that are not finished: the original's, with its split and another seed."""
    run = context.run
    if run is base.run:
        return []
    split_seed, tasks = run.recorded.data.split_seed, []
    wanted = _finetune_settings(base, settings, run.name, split_seed)
    for card in base.run.finetunes().values():
        values = {key: card.training[key] for key in TrainingSettings.model_fields if key in card.training}
        random_seed = values["random_seed"] + split_seed if seed is None else seed
        training = TrainingSettings.model_validate({**values, "validate_every": 0, "random_seed": random_seed})
        cache = settings.cache.model_copy(update={"cache_size": card.training["cache_size"]})
        own = wanted.model_copy(update={"training": training, "cache": cache})
        tasks += plan(run, own, context.runtime, [card.training["index"]])
    return tasks


def _comparison_rows(context: RunContext, recipes: Sequence[str]) -> list[dict[str, Any]]:
    """Return the comparison rows of one split, under names that all splits share."""
    others = {f"{recipe} soup" for recipe in RECIPES} - {f"{recipe} soup" for recipe in recipes}
    best, *rest = [row for row in rows_of_run(context) if row.name not in others]
    best = replace(best, name="best single")
    if f"{SOUP_VOTED} soup" in (names := [row.name for row in rest]) and _PAIR not in names:
        rest.append(replace(best, name=_PAIR))  # In such a split the soup is the best single model.
    sets = {name: comparison.SetTruth(context.labels(name)) for name in context.labelled_sets()}
    return comparison.compare([best, *rest], sets, shifts=shift_sets(context), repeats=1)


def _write_results(folder: Path, splits: Mapping[str, list[dict[str, Any]]], rows: list[dict[str, Any]]) -> None:
    """Write the pooled table as CSV and Markdown, and the results of each split."""
    single = [{"run": name, **row} for name, part in splits.items() for row in part]
    write_table(folder / "splits.csv", pd.DataFrame(single)[["run", "name", "val", *MEASURES]])
    write_table(folder / "study.csv", pd.DataFrame(rows))
    write_text(folder / "study.md", markdown_study(rows) + "\n")
