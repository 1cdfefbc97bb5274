"""Makes a soup of a run: calls the recipe, writes the soup, its decision log and its scores."""

import logging
import math
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from soups.checkpoints.average import make_soup_card
from soups.checkpoints.card import Card, IngredientCard, SoupCard, card_text, read_card
from soups.checkpoints.checkpoint import SUFFIX, read_layout, write_checkpoint
from soups.core.errors import UsageError, unknown_name
from soups.core.metrics import METRICS
from soups.evaluation.batchnorm import has_statistics
from soups.files.atomic import fingerprint
from soups.files.file_hashes import remember_hash
from soups.files.jsonl import append_record, read_records
from soups.pipeline.run.run import remove_leftovers
from soups.pipeline.score.context import RunContext
from soups.pipeline.score.evaluate import accuracies_text, pool_paths, score_model
from soups.pipeline.soup.judge import LazyJudge
from soups.pipeline.soup.parallel_judge import ParallelJudge, start_worker, worker_env_of_run
from soups.pipeline.soup.pool import check_pool, pool_key, pool_of
from soups.recipes.registry import RECIPES
from soups.recipes.shared.budget import BudgetedJudge
from soups.recipes.shared.options import all_options, canonical_request
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
    """A request for a soup."""

    recipe: str
    """A key of `RECIPES`."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Options of the recipe."""
    scores: bool = True
    """Score the finished soup on every set. False: no image is read beyond those that the recipe needs."""
    batchnorm: str | None = None
    """`recompute` or `average` the BatchNorm statistics; None: whichever scores better on validation."""
    evaluations: int | None = None
    """Largest number of judged candidates."""
    minutes: float | None = None
    """Largest number of minutes for judging candidates."""
    at_once: int = 1
    """Number of candidates judged in parallel; does not change the soup."""
    start: Path | None = None
    """Common start of the models; None: the one that their cards name."""
    name: str | None = None
    """Name of the soup's file without its ending; None: `<run>_<recipe>_soup`."""

    def key_fields(self, context: RunContext) -> dict[str, Any]:
        """Return everything that decides the soup, as its card records it."""
        run = context.run
        limits = {"batchnorm": self.batchnorm, "evaluations": self.evaluations, "minutes": self.minutes}
        limits |= {"start": None if self.start is None else run.sha256(self.start)}
        given = {key: value for key, value in limits.items() if value is not None}
        chosen = {} if run.only is None else {"ingredients": sorted(run.only)}
        pool = pool_key(run.hashes(pool_paths(run).values()))
        # Defaults are included, so that a soup made under other defaults is made again.
        options = all_options(self.recipe, self.options)
        return {"metric": context.evaluation.metric, "pool": pool, **chosen, **given, **options}


def make_soup(context: RunContext, request: SoupRequest) -> Path:
    """Make a soup of the run's models, unless an equal request was made before; score and log it.

    Each decision is logged when it is made, so that a killed command resumes where the log ends.

    Returns:
        The soup's checkpoint.

    Raises:
        UsageError: there is no such recipe.
        DataError: an ingredient is missing, changed or does not fit the others.
    """
    if request.recipe not in RECIPES:
        raise unknown_name("recipe", request.recipe, RECIPES)
    run = context.run
    key_fields = request.key_fields(context)
    path = run.soup_path(request.recipe) if request.name is None else run.models / f"{request.name}{SUFFIX}"
    former = read_card(path) if path.exists() else None
    if path.exists() and (former is None or former.kind != "soup"):
        raise UsageError(
            f"--soup-name {path.stem}: a model that is no soup has this name",
            expected="a name for a new soup",
            next_step="give another --soup-name",
        )
    if former is not None and former.soup is not None and _is_kept(former.soup, request, key_fields, path):
        logger.info("%s: made already", path)
    else:
        remove_leftovers(run)
        written = _write_mean_of_files(context, request, key_fields, path)
        if written is None:
            log = run.folder / "logs" / f"{path.stem.removeprefix(f'{run.name}_')}.jsonl"
            soup, card = _make_with_recipe(context, request, key_fields, log)
            written = write_checkpoint(path, soup.state, card), soup.summary
        # The hash is known here; later readers need not read the file again.
        remember_hash(path, written[0], cache_dir() / "hashes")
        logger.info("%s: %s", path, written[1])
    if request.scores and run.results(run.soup_results).get(path.stem, {}).get("sha256") != run.sha256(path):
        line = score_model((context, path))
        append_record(run.soup_results, line)
        logger.info("%s: %s", path.stem, accuracies_text(line))
    return path


def _is_kept(former: SoupCard, request: SoupRequest, key_fields: dict[str, Any], path: Path) -> bool:
    """Return whether a former soup answers a request; a greedy soup keeps its rule unless the user names one."""
    made = canonical_request(former.recipe, former.request)
    differing = {key for key in key_fields | made if key_fields.get(key) != made.get(key)}
    if former.recipe != request.recipe or "accept" not in differing:
        return former.recipe == request.recipe and not differing
    old, new = f"--accept {made['accept']}", f"--accept {key_fields['accept']}"
    if differing <= {"accept", "level"} - request.options.keys():
        logger.info("%s was made by %s and is kept; add %s for today's default rule", path, old, new)
        return True
    logger.info("%s is made again by %s, another rule than that of the former soup, %s", path, new, old)
    return False


def _write_mean_of_files(
    context: RunContext, request: SoupRequest, key_fields: dict[str, Any], path: Path
) -> tuple[str, str] | None:
    """Write an unscored uniform soup without loading torch; return its SHA-256 and summary.

    Returns None where this is impossible: other recipes, files with different layouts, dtypes that NumPy lacks,
    statistics that may need recomputing, or a mean that is not finite (the ordinary way gives the better message).
    """
    if request.scores or request.recipe != "uniform":
        return None
    files = pool_paths(context.run)
    own = all(file.suffix == SUFFIX and read_card(file) is not None for file in files.values())
    if not own or not can_average_files(list(files.values())):
        return None
    pool, card = pool_of(context, scored=False)
    layout = read_layout(next(iter(files.values())))
    if has_statistics(layout) and request.batchnorm != "average":
        return None
    soup = uniform_soup(canonical_order(pool.ingredients))
    batchnorm = {"statistics": request.batchnorm} if has_statistics(layout) else {}
    text = card_text(_card_of(context, soup, card, key_fields, batchnorm, layout))
    try:
        members = [files[ingredient.name] for ingredient in soup.ingredients]
        return write_mean(path, members, text, context.runtime.threads), soup.summary
    except NotFinite:
        return None


def _make_with_recipe(
    context: RunContext, request: SoupRequest, key_fields: dict[str, Any], log_path: Path
) -> tuple[Soup, Card]:
    """Return the soup and its card."""
    limit_threads(context.runtime.threads)
    if not request.scores and not RECIPES[request.recipe].needs_judge and request.batchnorm != "recompute":
        pool, card = pool_of(context, scored=False)
        soup = RECIPES[request.recipe](pool, None, **request.options)
        statistics = {"statistics": request.batchnorm} if has_statistics(soup.state) else {}
        if not statistics or request.batchnorm == "average":
            return soup, _card_of(context, soup, card, key_fields, statistics, layout_of(soup.state))
    check_pool(context)
    pool, card = pool_of(context, start=request.start)
    key = fingerprint([key_fields, context.run.fingerprints[1], context.runtime.precision, context.runtime.threads])
    lines = [line for line in read_records(log_path) if line.get("request") == key]
    with ExitStack() as stack:
        judge_alone = LazyJudge(context, (pool, card), request.batchnorm)
        judge: Judge = judge_alone
        if request.at_once > 1:
            if context.launch.no_shared_storage:
                raise UsageError("--at-once: judging reads the pool's files", next_step="leave --no-shared-storage out")
            make_env = partial(worker_env_of_run, context, request.batchnorm)
            launcher = make_launcher(context.launch, context.runtime)
            workers = stack.enter_context(launcher.worker_pool(request.at_once, partial(start_worker, make_env)))
            judge = ParallelJudge(judge_alone, workers, request.at_once)
        judge = BudgetedJudge(ReplayJudge(judge, lines), request.evaluations, request.minutes)
        soup = RECIPES[request.recipe](
            pool, judge, on_decision=lambda line: append_record(log_path, {"request": key, **line}), **request.options
        )
    if len(soup.ingredients) > 1:
        soup = replace(soup, state=judge_alone.with_batchnorm(soup.state))
    return soup, _card_of(context, soup, card, key_fields, judge_alone.statistics, layout_of(soup.state))


def _card_of(
    context: RunContext, soup: Soup, part: Card, request: dict[str, Any], batchnorm: Mapping[str, Any], layout: Layout
) -> Card:
    """Return the card of a soup.

    Args:
        context: the run.
        soup: the soup.
        part: the card of an ingredient.
        request: everything that decided the soup.
        batchnorm: what is recorded of its BatchNorm statistics.
        layout: its tensors.
    """
    parts = tuple(
        IngredientCard(name=ingredient.name, sha256=ingredient.sha256, coefficient=coefficient)
        for ingredient, coefficient in zip(soup.ingredients, soup.coefficients, strict=True)
    )
    record = SoupCard(
        recipe=soup.recipe,
        ingredients=parts,
        options={**soup.options, **({"batchnorm": dict(batchnorm)} if batchnorm else {})},
        request=request,
        summary=soup.summary,
        integers=integer_rule(layout),
    )
    card = make_soup_card(part, record)
    if soup.score is None or not math.isfinite(soup.score):
        return card
    metric = METRICS[context.evaluation.metric]
    value = soup.score if metric.higher_is_better else -soup.score
    return card.model_copy(update={"scores": {"val": {metric.name: value}}})
