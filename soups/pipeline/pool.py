"""The pool of a run: its fine-tunes as ingredients, their verdicts from the logs, and their common start."""

import math
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from soups.averaging import check_cards
from soups.checkpoints import Card
from soups.errors import DataError
from soups.metrics import METRICS, predictions
from soups.pipeline.evaluate import Bench, evaluate_individuals, pool_paths
from soups.pipeline.reading import is_mapped, read_model
from soups.recipes.pool import Ingredient, Pool, Verdict
from soups.records import fingerprint


def pool_key(hashes: Iterable[str]) -> str:
    """What stands for the models of a pool, given the SHA-256 of each."""
    return fingerprint(sorted(hashes))


def pool_of(bench: Bench, *, scored: bool = True) -> tuple[Pool, Card]:
    """All fine-tunes of the run with their common start, if they have one, and the card of one of them.

    Args:
        bench: the run.
        scored: evaluate those that the log does not know; otherwise the ingredients have no scores, and no image is
            opened.

    Raises:
        DataError: there is no fine-tune, or they do not belong together.
    """
    paths = pool_paths(bench.run)
    hashes = bench.run.hashes(paths.values())
    cards = {path.stem: card for path, card in bench.run.finetunes().items()}
    check_cards(list(cards.values()), list(cards))
    if scored:
        lines = evaluate_individuals(bench)
        ingredients = tuple(ingredient_of(bench, path, lines[name]) for name, path in paths.items())
        start = _common_start(bench, list(cards.values()))
    else:
        ingredients = tuple(_unscored(bench, *part) for part in zip(paths.values(), hashes, strict=True))
        start = None
    return Pool(ingredients, start), next(iter(cards.values()))


def ingredient_of(bench: Bench, path: Path, line: dict[str, Any]) -> Ingredient:
    """A model as an ingredient, with its verdict from its line in the log of individual results."""
    values = line["metrics"]["val"]
    score = _score(bench, values)
    return Ingredient(
        name=path.stem,
        sha256=line["sha256"],
        score=score,
        log_loss=values["log_loss"],
        load=_reader(bench, path, line["sha256"]),
        mapped=is_mapped(path),
        known=lambda: _known_verdict(bench, path, score, values["log_loss"]),
    )


def _unscored(bench: Bench, path: Path, sha256: str) -> Ingredient:
    return Ingredient(path.stem, sha256, math.nan, math.nan, _reader(bench, path, sha256), is_mapped(path))


def _score(bench: Bench, values: Mapping[str, float]) -> float:
    metric = METRICS[bench.evaluation.metric]
    return values[metric.name] if metric.higher_is_better else -values[metric.name]


def _known_verdict(bench: Bench, path: Path, score: float, log_loss: float) -> Verdict:
    """A model's verdict from its kept logits: the same as if it were judged now."""
    right = predictions(bench.probabilities(path, ["val"])["val"]) == bench.labels("val")
    return Verdict(score, int((~right).sum()), len(right), True, log_loss, right.astype(np.int8))


def _common_start(bench: Bench, cards: list[Card]) -> Ingredient | None:
    """The start that all ingredients' cards name, if that is the run's."""
    run = bench.run
    line = run.results(run.individual_results).get(run.start.stem)
    if line is None or {card.start for card in cards} != {run.sha256(run.start)}:
        return None
    return ingredient_of(bench, run.start, line)


def _reader(bench: Bench, path: Path, sha256: str) -> Callable[[], Any]:
    def read() -> Any:
        # The hash is remembered with the file's size and times: asking costs nothing while they stay.
        if (found := bench.run.sha256(path)) != sha256:
            raise DataError(
                f"{path}: changed since it was logged",
                expected=f"SHA-256 {sha256}",
                found=found,
                next_step="restore the file, or remove it and make it again",
            )
        return read_model(bench.run, path)

    return read
