"""Soups of a run: a recipe, and the soup's file, trace and scores."""

import logging
import math
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from soups.checkpoints.average import soup_card
from soups.checkpoints.checkpoint import (
    SUFFIX,
    Card,
    IngredientCard,
    SoupCard,
    card_text,
    read_card,
    read_layout,
    write_checkpoint,
)
from soups.core.errors import UsageError, unknown_name
from soups.core.metrics import METRICS
from soups.evaluation.batchnorm import has_statistics
from soups.files.atomic import append_record, fingerprint, read_records
from soups.files.file_hashes import remember_hash
from soups.pipeline.run.run import Run, remove_leftovers
from soups.pipeline.score.context import RunContext
from soups.pipeline.score.evaluate import accuracies_text, append_if_new, pool_paths, score_model
from soups.pipeline.soup.judge import LazyJudge
from soups.pipeline.soup.parallel_judge import ParallelJudge, worker_env_of_run
from soups.pipeline.soup.pool import check_pool, pool_key, pool_of
from soups.recipes.registry import RECIPES
from soups.recipes.shared.budget import BudgetedJudge
from soups.recipes.shared.options import all_options
from soups.recipes.shared.pool import Judge, Soup, canonical_order
from soups.recipes.shared.resume import ReplayJudge
from soups.recipes.uniform import uniform_soup
from soups.runtime.devices import cache_dir, limit_threads
from soups.runtime.launchers import make_launcher
from soups.weights.file_mean import NotFinite, can_average_files, write_mean
from soups.weights.safetensors_header import Layout, layout_of
from soups.weights.state_dict import integer_rule

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class SoupRequest:
    """Which soup is wanted."""

    recipe: str
    """A key of `RECIPES`."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """The recipe's own."""
    scores: bool = True
    """Score the finished soup on every set. False: no more images are looked at than the recipe itself asks for."""
    batchnorm: str | None = None
    """`recompute` or `average` the statistics of BatchNorm; None: what is better on validation."""
    evaluations: int | None = None
    """Candidates judged at the most."""
    minutes: float | None = None
    """Time for judging candidates at the most."""
    at_once: int = 1
    """Candidates judged side by side; the soup is the same."""
    start: Path | None = None
    """The models' common start; None: the one that their cards name."""
    name: str | None = None
    """Of the soup's file, without its ending; None: `<run>_<recipe>_soup`."""

    def request(self, context: RunContext) -> dict[str, Any]:
        """What decides about the soup, as its card records it."""
        run = context.run
        limits = {"batchnorm": self.batchnorm, "evaluations": self.evaluations, "minutes": self.minutes}
        limits |= {"start": None if self.start is None else run.sha256(self.start)}
        given = {key: value for key, value in limits.items() if value is not None}
        chosen = {} if run.only is None else {"ingredients": sorted(run.only)}
        pool = pool_key(run.hashes(pool_paths(run).values()))
        # With the recipe's defaults, so that a soup made when they were others is made again.
        options = all_options(self.recipe, self.options)
        return {"metric": context.evaluation.metric, "pool": pool, **chosen, **given, **options}


def make_soup(context: RunContext, order: SoupRequest) -> Path:
    """Make a soup of the models of the run that count, unless it is there already; score it and log it.

    Every decision is on record as soon as it has fallen: a run that was killed goes on where its record ends.

    Returns:
        The soup's checkpoint.

    Raises:
        UsageError: there is no such recipe.
        DataError: an ingredient is missing, changed or does not fit the others.
    """
    if order.recipe not in RECIPES:
        raise unknown_name("recipe", order.recipe, RECIPES)
    run = context.run
    request = order.request(context)
    path = run.soup_path(order.recipe) if order.name is None else run.models / f"{order.name}{SUFFIX}"
    _refuse_overwriting(path)
    if _is_made(path, request):
        logger.info("%s: made already", path)
    else:
        remove_leftovers(run)
        done = _straight_to_disk(context, order, request, path)
        if done is None:
            soup, card = _cooked(
                context, order, request, context.run.folder / "logs" / f"{_short_name(run, path)}.jsonl"
            )
            done = write_checkpoint(path, soup.state, card), soup.summary
        # The hash is known: whoever asks for it next need not read the file again.
        remember_hash(path, done[0], cache_dir() / "hashes")
        logger.info("%s: %s", path, done[1])
    if order.scores:
        _log_scores(context, path)
    return path


def _short_name(run: Run, path: Path) -> str:
    """`greedy_soup` for `digits_greedy_soup`."""
    return path.stem.removeprefix(f"{run.name}_")


def _refuse_overwriting(path: Path) -> None:
    """Raise where a name of the user's is that of a model that is no soup."""
    card = read_card(path) if path.exists() else None
    if path.exists() and (card is None or card.kind != "soup"):
        raise UsageError(
            f"--soup-name {path.stem}: a model that is no soup has this name",
            expected="a name for a new soup",
            next_step="give another --soup-name",
        )


def _straight_to_disk(
    context: RunContext, order: SoupRequest, request: dict[str, Any], path: Path
) -> tuple[str, str] | None:
    """Write a uniform soup that nobody asks scores of, without loading torch: its SHA-256 and summary.

    None where that cannot be: other recipes, files that do not lie alike, types that NumPy does not know, statistics
    that may want recomputing, or a mean that is no number, on which the ordinary way has more to say.
    """
    if order.scores or order.recipe != "uniform":
        return None
    files = pool_paths(context.run)
    own = all(file.suffix == SUFFIX and read_card(file) is not None for file in files.values())
    if not own or not can_average_files(list(files.values())):
        return None
    pool, card = pool_of(context, scored=False)
    layout = read_layout(next(iter(files.values())))
    if has_statistics(layout) and order.batchnorm != "average":
        return None
    soup = uniform_soup(canonical_order(pool.ingredients))
    batchnorm = {"statistics": order.batchnorm} if has_statistics(layout) else {}
    told = _card_of(soup, card, context, request, batchnorm, layout)
    try:
        members = [files[ingredient.name] for ingredient in soup.ingredients]
        return write_mean(path, members, card_text(told), context.runtime.threads), soup.summary
    except NotFinite:
        return None


def _cooked(context: RunContext, order: SoupRequest, request: dict[str, Any], trace: Path) -> tuple[Soup, Card]:
    """The soup and its card."""
    limit_threads(context.runtime.threads)
    if not order.scores and not RECIPES[order.recipe].needs_judge and order.batchnorm != "recompute":
        pool, card = pool_of(context, scored=False)
        soup = RECIPES[order.recipe](pool, None, **order.options)
        told = {"statistics": order.batchnorm} if has_statistics(soup.state) else {}
        if not told or order.batchnorm == "average":
            return soup, _card_of(soup, card, context, request, told, layout_of(soup.state))
    check_pool(context)
    pool, card = pool_of(context, start=order.start)
    key = fingerprint([request, context.run.fingerprints[1], context.runtime.precision, context.runtime.threads])
    lines = [line for line in read_records(trace) if line.get("request") == key]
    with ExitStack() as stack:
        alone = LazyJudge(context, (pool, card), order.batchnorm)
        judge: Judge = alone
        if order.at_once > 1:
            if context.launch.no_shared_storage:
                raise UsageError("--at-once: judging reads the pool's files", next_step="leave --no-shared-storage out")
            seat = partial(worker_env_of_run, context, order.batchnorm)
            judge = stack.enter_context(
                ParallelJudge(alone, seat, order.at_once, make_launcher(context.launch, context.runtime))
            )
        judge = BudgetedJudge(ReplayJudge(judge, lines), order.evaluations, order.minutes)
        soup = RECIPES[order.recipe](
            pool, judge, on_decision=lambda line: append_record(trace, {"request": key, **line}), **order.options
        )
    if len(soup.ingredients) > 1:
        soup = replace(soup, state=alone.settled(soup.state))
    return soup, _card_of(soup, card, context, request, alone.told, layout_of(soup.state))


def _is_made(path: Path, request: dict[str, Any]) -> bool:
    if not path.exists():
        return False
    card = read_card(path)
    return card is not None and card.soup is not None and card.soup.request == request


def _card_of(
    soup: Soup,
    ingredient: Card,
    context: RunContext,
    request: dict[str, Any],
    batchnorm: Mapping[str, Any],
    layout: Layout,
) -> Card:
    parts = tuple(
        IngredientCard(name=part.name, sha256=part.sha256, coefficient=coefficient)
        for part, coefficient in zip(soup.ingredients, soup.coefficients, strict=True)
    )
    told = SoupCard(
        recipe=soup.recipe,
        ingredients=parts,
        options={**soup.options, **({"batchnorm": dict(batchnorm)} if batchnorm else {})},
        request=request,
        summary=soup.summary,
        integers=integer_rule(layout),
    )
    card = soup_card(ingredient, told)
    if soup.score is None or not math.isfinite(soup.score):
        return card
    metric = METRICS[context.evaluation.metric]
    value = soup.score if metric.higher_is_better else -soup.score
    return card.model_copy(update={"scores": {"val": {metric.name: value}}})


def _log_scores(context: RunContext, path: Path) -> None:
    run = context.run
    known = run.results(run.soup_results).get(path.stem)
    if known is not None and known.get("sha256") == run.sha256(path):
        return
    line = score_model((context, path))
    append_if_new(run, line)
    logger.info("%s: %s", path.stem, accuracies_text(line))
