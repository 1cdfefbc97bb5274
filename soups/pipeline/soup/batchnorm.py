"""Decides whether soups of a run get recomputed BatchNorm statistics: by setting, or by validation score."""

import logging
import math
from typing import TYPE_CHECKING, Any

from soups.checkpoints.card import Card
from soups.checkpoints.checkpoint import read_state
from soups.core.errors import UsageError
from soups.evaluation.batchnorm import (
    SEED,
    BatchNormRecomputer,
    batchnorm_layers,
    select_images,
    statistics_fingerprint,
)
from soups.files.atomic import fingerprint
from soups.files.jsonl import append_record, read_records
from soups.pipeline.run.images import evaluation_set
from soups.pipeline.score.context import RunContext
from soups.recipes.shared.pool import Pool, canonical_order, mean_state

if TYPE_CHECKING:
    from soups.evaluation.judge import ValidationJudge

logger = logging.getLogger(__name__)

RECOMPUTE, AVERAGE = "recompute", "average"


def choose_batchnorm(
    judge: "ValidationJudge", context: RunContext, pool: Pool, card: Card, asked: str | None
) -> dict[str, Any]:
    """Give a judge the BatchNorm recomputation that soups of the pool need, and return what a card records of it.

    Networks without BatchNorm, and a pool of one model, need none; then no training image is opened.

    Args:
        judge: the judge of the pool; changed in place.
        context: the run.
        pool: its ingredients.
        card: the card of one of them.
        asked: `recompute` or `average`; None: whichever gives the mean of all ingredients the better validation score,
            `average` where both score the same.

    Returns:
        Entries for the soup's card: `statistics` (`recompute` or `average`) and, for the former, `images` and `seed`;
        empty where there is nothing to decide.

    Raises:
        UsageError: `recompute` without training images.
        DataError: a training image cannot be read, or the ingredients do not fit each other.
    """
    layers = batchnorm_layers(judge.classifier)
    if not layers or len(pool.ingredients) == 1:
        return {}
    rows = context.run.samples[context.run.samples["split"] == "train"]
    if len(rows) < 2:  # The variance of one image may be undefined.
        if asked == RECOMPUTE:
            raise UsageError(
                "--batchnorm recompute: no training images",
                expected="training images of the data that the models were fine-tuned on",
                next_step="give --data-location a folder with train/<class>/…, or --batchnorm average",
            )
        logger.warning("no training images: the soup's BatchNorm statistics are averaged, which can make it collapse")
        return {"statistics": AVERAGE}
    if asked == AVERAGE:
        return {"statistics": AVERAGE}
    rows = rows.iloc[select_images(len(rows))]
    images = evaluation_set("train", rows, context.run, card.preprocessing, context.cache).images
    fingerprints = _fingerprints(context, pool, tuple(layers))
    recomputer = BatchNormRecomputer(images, card.preprocessing, context.runtime, fingerprints)
    record = {"statistics": RECOMPUTE, "images": len(images), "seed": SEED}
    if asked is None and not _recomputing_helps(judge, recomputer, context, pool, record):
        return {"statistics": AVERAGE}
    judge.recomputer = recomputer
    return record


def _fingerprints(context: RunContext, pool: Pool, layers: tuple[str, ...]) -> frozenset[str]:
    """Return the fingerprints of the BatchNorm statistics of single models."""
    states = (ingredient.load() for ingredient in pool.ingredients)
    prints = {statistics_fingerprint(state, layers) for state in states}
    if pool.start is not None:
        prints.add(statistics_fingerprint(pool.start.load(), layers))
    elif context.run.start.exists():
        prints.add(statistics_fingerprint(read_state(context.run.start), layers))
    return frozenset(prints)


def _recomputing_helps(
    judge: "ValidationJudge", recomputer: BatchNormRecomputer, context: RunContext, pool: Pool, record: dict[str, Any]
) -> bool:
    """Return whether the uniform mean of the pool scores better with recomputed statistics; computed once per pool and
    logged."""
    log = context.run.folder / "logs" / "batchnorm.jsonl"
    ingredients = canonical_order(pool.ingredients)
    identity = {
        "pool": fingerprint([ingredient.sha256 for ingredient in ingredients]),
        "metric": context.evaluation.metric,
        "precision": context.runtime.precision,
        "split": context.run.fingerprints[1],
        **{key: record[key] for key in ("images", "seed")},
    }
    logged = next((line for line in reversed(read_records(log)) if identity.items() <= line.items()), None)
    line = logged or dict(identity)
    if logged is None:
        state = mean_state(ingredients)
        for name, used in ((AVERAGE, None), (RECOMPUTE, recomputer)):
            judge.recomputer = used
            score = judge(state).score
            line[name] = score if math.isfinite(score) else None  # A collapsed mean may give NaN only.
        judge.recomputer = None
        append_record(log, line)
    averaged, recomputed = line[AVERAGE], line[RECOMPUTE]
    better = recomputed is not None and (averaged is None or recomputed > averaged)
    if logged is None:
        texts = ["nothing" if score is None else f"{score:.4g}" for score in (recomputed, averaged)]
        logger.info(
            "BatchNorm: the mean of all models scores %s with statistics computed anew on %d training images, %s with "
            "averaged ones: %s",
            *(texts[0], record["images"], texts[1], "computed anew" if better else "averaged"),
        )
    return better
