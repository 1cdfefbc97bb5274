"""The pool of a run: its fine-tunes as ingredients, their verdicts from the logs, and their common start."""

import math
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from soups.checkpoints.average import check_cards
from soups.checkpoints.card import Card, read_card
from soups.checkpoints.checkpoint import SUFFIX, read_layout
from soups.checkpoints.compatibility import check_duplicates, check_layouts
from soups.core.metrics import METRICS
from soups.core.scores import predictions
from soups.files.atomic import fingerprint
from soups.files.file_hashes import check_hash
from soups.pipeline.run.model_files import is_mapped, read_model
from soups.pipeline.score.context import RunContext
from soups.pipeline.score.evaluate import evaluate_individuals, pool_paths
from soups.pipeline.soup.ingredients import find_start
from soups.recipes.shared.pool import Ingredient, Pool, Verdict
from soups.weights.safetensors_header import Layout, layout_of
from soups.weights.state_dict import check_finite


def pool_key(hashes: Iterable[str]) -> str:
    """Return a fingerprint of the models of a pool from the SHA-256 of each."""
    return fingerprint(sorted(hashes))


def pool_of(context: RunContext, *, scored: bool = True, start: Path | None = None) -> tuple[Pool, Card]:
    """Return the models of the run with their common start, if any, and the card of one of them.

    Args:
        context: the run.
        scored: evaluate models that the log does not contain; False: ingredients have no scores, and no image is
            opened.
        start: the start that the user named.

    Raises:
        DataError: there is no fine-tune, the models do not belong together, or `start` is not theirs.
    """
    paths = pool_paths(context.run)
    hashes = context.run.hashes(paths.values())
    cards = {path.stem: card for path, card in context.run.finetunes().items()}
    check_cards(cards)
    check_duplicates(dict(zip(paths, hashes, strict=True)))
    layouts: dict[str, Layout] = {}
    for name, path in paths.items():
        own = path.suffix == SUFFIX and read_card(path) is not None
        layouts[name] = read_layout(path) if own else layout_of(read_model(context.run, path))
    check_layouts(layouts)
    card = next(iter(cards.values()))
    if not scored:  # Recipes that need no scores need no start, and hashing its file takes time.
        unscored = [_unscored(context, path, digest) for path, digest in zip(paths.values(), hashes, strict=True)]
        return Pool(tuple(unscored)), card
    lines = evaluate_individuals(context)
    ingredients = tuple(ingredient_of(context, path, lines[name]) for name, path in paths.items())
    place, problem = find_start(context.run, cards, start)
    start_model = None if place is None else _unscored(context, place, context.run.sha256(place))
    return Pool(ingredients, start_model, problem), card


def check_pool(context: RunContext) -> None:
    """Raise where the models of a run do not belong together or are not finite, before anything is judged.

    Raises:
        DataError: names the model and what is wrong with it.
    """
    pool, _ = pool_of(context, scored=False)
    for ingredient in pool.ingredients:
        check_finite(ingredient.load(), ingredient.name)


def ingredient_of(context: RunContext, path: Path, line: dict[str, Any]) -> Ingredient:
    """Return a model as an ingredient, with the verdict from its line in the log of individual results."""
    metric, values = METRICS[context.evaluation.metric], line["metrics"]["val"]
    score = values[metric.name] if metric.higher_is_better else -values[metric.name]

    def verdict() -> Verdict:
        """Return the verdict from the cached logits, equal to one computed now."""
        right = predictions(context.probabilities(path, ["val"])["val"]) == context.labels("val")
        errors, outcome = int((~right).sum()), right.astype(np.int8)
        return Verdict(score, errors, len(right), True, values["log_loss"], outcome)

    model = _unscored(context, path, line["sha256"])
    return replace(model, score=score, log_loss=values["log_loss"], known_verdict=verdict)


def _unscored(context: RunContext, path: Path, sha256: str) -> Ingredient:
    """Return a model as an ingredient without scores."""

    def read() -> Any:
        # The hash is cached by size and times of the file, so that computing it again is free.
        check_hash(path, sha256, context.run.sha256(path))
        return read_model(context.run, path)

    return Ingredient(path.stem, sha256, math.nan, math.nan, read, is_mapped(context.run, path))
