"""Soups of a run: the pool from its logs, a recipe, and the soup's file, trace and scores."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from soups.averaging import check_cards, soup_card
from soups.checkpoints import SUFFIX, Card, IngredientCard, SoupCard, read_card, read_state, write_checkpoint
from soups.data.samples import set_rows
from soups.errors import unknown_name
from soups.metrics import METRICS, predictions
from soups.pipeline.evaluate import Bench, accuracies_text, append_if_new, evaluate_individuals, pool_paths, score_model
from soups.pipeline.sets import evaluation_set
from soups.recipes import RECIPES
from soups.recipes.pool import Accept, Ingredient, Judge, Pool, Soup, Verdict
from soups.records import append_record, fingerprint
from soups.runtime import limit_threads

logger = logging.getLogger(__name__)


def make_soup(bench: Bench, recipe: str, options: dict[str, Any]) -> Path:
    """Make a soup of all fine-tunes of the run by a recipe, unless it is there already; score it and log it.

    Returns:
        The soup's checkpoint.

    Raises:
        UsageError: there is no such recipe.
        DataError: an ingredient is missing, changed or does not fit the others.
    """
    if recipe not in RECIPES:
        raise unknown_name("recipe", recipe, RECIPES)
    run = bench.run
    lines = evaluate_individuals(bench)
    request = {
        "metric": bench.evaluation.metric,
        "pool": pool_key(lines),
        **options,
    }
    path = run.soup_path(recipe)
    if not _is_made(path, request):
        pool, card = pool_of(bench)
        trace = run.folder / "logs" / f"{recipe}_soup.jsonl"
        key = fingerprint(request)
        soup = RECIPES[recipe](
            pool,
            LazyJudge(bench),
            on_decision=lambda line: append_record(trace, {"request": key, **line}),
            **options,
        )
        write_checkpoint(path, soup.state, _card_of(soup, card, bench, request))
        logger.info("%s: %s", path, soup.summary)
    else:
        logger.info("%s: made already", path)
    _log_scores(bench, path)
    return path


def pool_key(lines: Mapping[str, dict[str, Any]]) -> str:
    """What stands for the models of a pool, given their lines in the log of results."""
    return fingerprint(sorted(line["sha256"] for line in lines.values()))


def pool_of(bench: Bench) -> tuple[Pool, Card]:
    """All fine-tunes of the run with their common start, if they have one, and the card of one of them.

    Raises:
        DataError: there is no fine-tune, or they do not belong together.
    """
    paths, lines = pool_paths(bench.run), evaluate_individuals(bench)
    cards = {name: _card(path) for name, path in paths.items()}
    check_cards(list(cards.values()), list(cards))
    ingredients = tuple(_ingredient(bench, paths[name], line) for name, line in lines.items())
    return Pool(ingredients, _common_start(bench, list(cards.values()))), next(iter(cards.values()))


def _is_made(path: Path, request: dict[str, Any]) -> bool:
    if not path.exists():
        return False
    card = read_card(path)
    return card is not None and card.soup is not None and card.soup.request == request


def _card(path: Path) -> Card:
    card = read_card(path)
    assert card is not None  # Only files with a card are in the pool.
    return card


def _ingredient(bench: Bench, path: Path, line: dict[str, Any]) -> Ingredient:
    values = line["metrics"]["val"]
    metric = METRICS[bench.evaluation.metric]
    score = values[metric.name] if metric.higher_is_better else -values[metric.name]
    return Ingredient(
        path.stem, line["sha256"], score, values["log_loss"], _reader(path, line["sha256"]), path.suffix == SUFFIX
    )


def _common_start(bench: Bench, cards: list[Card]) -> Ingredient | None:
    """The start that all ingredients' cards name, if that is the run's."""
    run = bench.run
    line = run.results(run.individual_results).get(run.start.stem)
    if line is None or {card.start for card in cards} != {run.sha256(run.start)}:
        return None
    return _ingredient(bench, run.start, line)


def _reader(path: Path, sha256: str) -> Callable[[], Any]:
    return lambda: read_state(path, sha256)


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


@dataclass
class LazyJudge:
    """The judge of a run's validation set, built when the first verdict is asked for."""

    bench: Bench
    judge: Judge | None = None

    def __call__(self, state: Any, accept: Accept | None = None) -> Verdict:
        """The verdict on these weights."""
        if self.judge is None:
            self.judge = self._build()
        return self.judge(state, accept)

    def _build(self) -> Judge:
        from soups.evaluation.judge import ValidationJudge
        from soups.models.build import build_empty

        bench = self.bench
        limit_threads(bench.runtime.threads)
        card = _card(next(iter(pool_paths(bench.run).values())))
        validation = evaluation_set(
            "val", set_rows(bench.run.samples, "val"), bench.run, card.preprocessing, bench.cache
        )
        return ValidationJudge(
            build_empty(card.architecture, card.classes),
            validation,
            card.preprocessing,
            bench.evaluation.metric,
            bench.runtime,
            bench.evaluation.eval_batch_size,
            self._known_mistakes(),
        )

    def _known_mistakes(self) -> np.ndarray:
        """How many of the pool's models get each validation image wrong, from their kept logits."""
        labels = self.bench.labels("val")
        outputs = [self.bench.probabilities(path, ["val"])["val"] for path in pool_paths(self.bench.run).values()]
        return np.sum([predictions(values) != labels for values in outputs], axis=0)


def _log_scores(bench: Bench, path: Path) -> None:
    run = bench.run
    known = run.results(run.soup_results).get(path.stem)
    if known is not None and known.get("sha256") == run.sha256(path):
        return
    line = score_model((bench, path))
    append_if_new(run, line)
    logger.info("%s: %s", path.stem, accuracies_text(line))
