"""Soups of a run: a recipe, and the soup's file, trace and scores."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from soups.averaging import soup_card
from soups.checkpoints import Card, IngredientCard, SoupCard, read_card, write_checkpoint
from soups.errors import unknown_name
from soups.metrics import METRICS
from soups.pipeline.evaluate import Bench, accuracies_text, append_if_new, pool_paths, score_model
from soups.pipeline.judging import LazyJudge
from soups.pipeline.pool import pool_key, pool_of
from soups.recipes import RECIPES, UNJUDGED
from soups.recipes.pool import Soup
from soups.records import append_record, fingerprint

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Order:
    """Which soup is wanted."""

    recipe: str
    """A key of `RECIPES`."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """The recipe's own."""
    scores: bool = True
    """Score the finished soup on every set. False: no more images are looked at than the recipe itself asks for."""


def make_soup(bench: Bench, order: Order) -> Path:
    """Make a soup of the fine-tunes of the run, unless it is there already; score it and log it.

    Returns:
        The soup's checkpoint.

    Raises:
        UsageError: there is no such recipe.
        DataError: an ingredient is missing, changed or does not fit the others.
    """
    if order.recipe not in RECIPES:
        raise unknown_name("recipe", order.recipe, RECIPES)
    run = bench.run
    hashes = run.hashes(pool_paths(run).values())
    request = {"metric": bench.evaluation.metric, "pool": pool_key(hashes), **order.options}
    path = run.soup_path(order.recipe)
    if _is_made(path, request):
        logger.info("%s: made already", path)
    else:
        soup, card = _cooked(bench, order, request)
        write_checkpoint(path, soup.state, _card_of(soup, card, bench, request))
        logger.info("%s: %s", path, soup.summary)
    if order.scores:
        _log_scores(bench, path)
    return path


def _cooked(bench: Bench, order: Order, request: dict[str, Any]) -> tuple[Soup, Card]:
    """The soup, and the card of one of its ingredients."""
    judged = order.scores or order.recipe not in UNJUDGED
    pool, card = pool_of(bench, scored=judged)
    trace, key = bench.run.folder / "logs" / f"{order.recipe}_soup.jsonl", fingerprint(request)
    soup = RECIPES[order.recipe](
        pool,
        LazyJudge(bench) if judged else None,
        on_decision=lambda line: append_record(trace, {"request": key, **line}),
        **order.options,
    )
    return soup, card


def _is_made(path: Path, request: dict[str, Any]) -> bool:
    if not path.exists():
        return False
    card = read_card(path)
    return card is not None and card.soup is not None and card.soup.request == request


def _card_of(soup: Soup, ingredient: Card, bench: Bench, request: dict[str, Any]) -> Card:
    parts = tuple(
        IngredientCard(name=part.name, sha256=part.sha256, coefficient=coefficient)
        for part, coefficient in zip(soup.ingredients, soup.coefficients, strict=True)
    )
    told = SoupCard(recipe=soup.recipe, ingredients=parts, options=soup.options, request=request, summary=soup.summary)
    card = soup_card(ingredient, told)
    metric = METRICS[bench.evaluation.metric]
    if soup.score is None:
        return card
    value = soup.score if metric.higher_is_better else -soup.score
    return card.model_copy(update={"scores": {"val": {metric.name: value}}})


def _log_scores(bench: Bench, path: Path) -> None:
    run = bench.run
    known = run.results(run.soup_results).get(path.stem)
    if known is not None and known.get("sha256") == run.sha256(path):
        return
    line = score_model((bench, path))
    append_if_new(run, line)
    logger.info("%s: %s", path.stem, accuracies_text(line))
