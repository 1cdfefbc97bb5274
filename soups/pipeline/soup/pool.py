"""The pool of a run: its fine-tunes as ingredients, their verdicts from the logs, and their common start."""

import math
from collections.abc import Callable, Iterable, Mapping
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


def pool_of(
    context: RunContext,
    *,
    scored: bool = True,
    start: Path | None = None,
) -> tuple[Pool, Card]:
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
    check_cards(list(cards.values()), list(cards))
    check_duplicates(dict(zip(paths, hashes, strict=True)))
    check_layouts({name: _layout(context, path) for name, path in paths.items()})
    if scored:
        lines = evaluate_individuals(context)
        ingredients = tuple(ingredient_of(context, path, lines[name]) for name, path in paths.items())
    else:
        ingredients = tuple(_unscored(context, *part) for part in zip(paths.values(), hashes, strict=True))
    # Recipes that need no scores need no start, and hashing its file takes time.
    place, problem = find_start(context.run, cards, start) if scored else (None, "")
    return Pool(ingredients, _start(context, place), problem), next(iter(cards.values()))


def check_pool(context: RunContext) -> None:
    """Raise where the models of a run do not belong together or are not finite, before anything is judged.

    Raises:
        DataError: names the model and what is wrong with it.
    """
    pool, _ = pool_of(context, scored=False)
    for ingredient in pool.ingredients:
        check_finite(ingredient.load(), ingredient.name)


def _layout(context: RunContext, path: Path) -> Layout:
    """Return names, shapes and dtypes of a model's tensors, from the header where the file is ours."""
    own = path.suffix == SUFFIX and read_card(path) is not None
    return read_layout(path) if own else layout_of(read_model(context.run, path))


def ingredient_of(context: RunContext, path: Path, line: dict[str, Any]) -> Ingredient:
    """Return a model as an ingredient, with the verdict from its line in the log of individual results."""
    values = line["metrics"]["val"]
    score = _score(context, values)
    return Ingredient(
        name=path.stem,
        sha256=line["sha256"],
        score=score,
        log_loss=values["log_loss"],
        load=_reader(context, path, line["sha256"]),
        mapped=is_mapped(path),
        known_verdict=lambda: _known_verdict(context, path, score, values["log_loss"]),
    )


def _unscored(context: RunContext, path: Path, sha256: str) -> Ingredient:
    return Ingredient(path.stem, sha256, math.nan, math.nan, _reader(context, path, sha256), is_mapped(path))


def _score(context: RunContext, values: Mapping[str, float]) -> float:
    metric = METRICS[context.evaluation.metric]
    return values[metric.name] if metric.higher_is_better else -values[metric.name]


def _known_verdict(context: RunContext, path: Path, score: float, log_loss: float) -> Verdict:
    """Return a model's verdict from its cached logits, equal to a verdict computed now."""
    right = predictions(context.probabilities(path, ["val"])["val"]) == context.labels("val")
    return Verdict(score, int((~right).sum()), len(right), True, log_loss, right.astype(np.int8))


def _start(context: RunContext, path: Path | None) -> Ingredient | None:
    """Return the start as an ingredient without scores."""
    return None if path is None else _unscored(context, path, context.run.sha256(path))


def _reader(context: RunContext, path: Path, sha256: str) -> Callable[[], Any]:
    def read() -> Any:
        # The hash is cached by size and times of the file, so that computing it again is free.
        check_hash(path, sha256, context.run.sha256(path))
        return read_model(context.run, path)

    return read
