"""Cross-fitted validation scores: models are chosen on one half of the validation images and scored on the other."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from soups.checkpoints.card import Card
from soups.core.errors import DataError
from soups.core.metrics import METRICS, all_scores
from soups.core.scores import log_loss, predictions, softmax
from soups.data.images.memory_cache import MemoryCachedImages
from soups.data.split import choose_groups
from soups.ensembles.selection import select_models
from soups.evaluation.judge import ValidationJudge
from soups.evaluation.logits import compute_logits
from soups.files.atomic import fingerprint
from soups.files.jsonl import append_record, read_records
from soups.models.build import build_empty
from soups.pipeline.score.context import RunContext
from soups.pipeline.score.evaluate import pool_paths
from soups.pipeline.soup.batchnorm import choose_batchnorm
from soups.pipeline.soup.make import SoupRequest
from soups.pipeline.soup.pool import pool_key, pool_of
from soups.recipes.registry import RECIPES
from soups.recipes.shared.pool import Ingredient, Pool, Soup, Verdict
from soups.runtime.devices import limit_threads

logger = logging.getLogger(__name__)

_HALVES_SEED = 0  # Seed of the halves.


def cross_fitted_scores(context: RunContext, requests: Sequence[SoupRequest]) -> dict[str, float]:
    """Return validation accuracies in [0, 1] on images that took no part in the choice.

    The validation images are halved, groups kept whole. The best single model, the soup of each recipe, its vote with
    the best single model, and the ensemble selection are chosen on the first half and predict the second, and vice
    versa. The accuracy covers all these predictions. Choosing on half of the images is slightly worse than on all, so
    this estimate is low, as plain validation is high.

    Results are logged in `logs/crossfit.jsonl` for each pool, metric and options.

    Args:
        context: the run.
        requests: the soups; their budgets are ignored here.

    Returns:
        `best_single`, `ensemble_selection` and, for each recipe, `<recipe>_soup` and `<recipe>_soup_and_best_single` →
        accuracy; empty with fewer than two validation images.
    """
    run = context.run
    if (run.samples["split"] == "val").sum() < 2:
        return {}
    key = fingerprint(
        {
            "pool": pool_key(run.hashes(pool_paths(run).values())),
            "split": run.fingerprints[1],
            "metric": context.evaluation.metric,
            "precision": context.runtime.precision,
            "soups": {request.recipe: {"batchnorm": request.batchnorm, **request.options} for request in requests},
            "seed": _HALVES_SEED,
        }
    )
    log = run.folder / "logs" / "crossfit.jsonl"
    line = next((line for line in reversed(read_records(log)) if line.get("key") == key), None)
    if line is None:
        line = {"key": key, **_measure(context, requests)}
        append_record(log, line)
    return {name: scores["accuracy"] for name, scores in line["scores"].items()}


def split_in_halves(labels: np.ndarray, groups: np.ndarray, seed: int = 0) -> tuple[np.ndarray, bool]:
    """Split a set of images in halves with about equal shares of each class, groups kept whole where possible.

    Args:
        labels: (N,) int64, classes.
        groups: (N,) text.
        seed: seed of the halves.

    Returns:
        (N,) bool, True for the second half; and whether groups are whole. They are not where all images are of one
        group, or each group holds a class of its own (each half would lack one).
    """
    names, group_of = np.unique(groups, return_inverse=True)
    if 1 < len(names) < len(labels):
        classes, class_of = np.unique(labels, return_inverse=True)
        counts = np.zeros((len(names), len(classes)), dtype=np.int64)
        np.add.at(counts, (group_of, class_of), 1)
        try:
            second = choose_groups(counts, len(names) // 2, seed, [str(name) for name in classes])
            return second[group_of], True
        except DataError:
            pass
    order = np.random.default_rng(seed).permutation(len(labels))
    order = order[np.argsort(labels[order], kind="stable")]
    second = np.zeros(len(labels), dtype=bool)
    second[order[1::2]] = True
    return second, len(names) == len(labels)


def _measure(context: RunContext, requests: Sequence[SoupRequest]) -> dict[str, Any]:
    labels, groups = context.labels("val"), context.groups("val")
    second, whole = split_in_halves(labels, groups, _HALVES_SEED)
    if not whole:
        logger.warning("cross-fitting: the validation images cannot be halved by group; halved by image")
    parts: dict[str, np.ndarray] = {}
    chosen: dict[str, list[Any]] = {}
    pool, card = pool_of(context)
    half = _Half(context, labels, pool_paths(context.run), pool, card)
    for choosing, scoring in ((~second, second), (second, ~second)):
        rows, others = np.flatnonzero(choosing), np.flatnonzero(scoring)
        for name, (what, outputs) in half.outcomes(rows, others, requests).items():
            parts.setdefault(name, np.empty((len(labels), outputs.shape[1])))[others] = outputs
            chosen.setdefault(name, []).append(what)
    return {
        "scores": {name: all_scores(table, labels) for name, table in parts.items()},
        "chosen": chosen,
        "images": [int((~second).sum()), int(second.sum())],
        "whole_groups": whole,
    }


@dataclass(frozen=True)
class _Half:
    """Chooses on some of the validation images and predicts others."""

    context: RunContext
    labels: np.ndarray
    paths: Mapping[str, Path]
    pool: Pool
    card: Card

    def outcomes(
        self, rows: np.ndarray, others: np.ndarray, requests: Sequence[SoupRequest]
    ) -> dict[str, tuple[Any, np.ndarray]]:
        """Return name → the outcome chosen on the images `rows` and its (K, C) probabilities of the images `others`."""
        metric = METRICS[self.context.evaluation.metric]
        pool = replace(self.pool, ingredients=tuple(self._with_verdict(part, rows) for part in self.pool.ingredients))
        best = min(pool.ingredients, key=lambda part: (-part.score, part.log_loss, part.name))
        single = self._select_rows(best, others)
        found: dict[str, tuple[Any, np.ndarray]] = {"best_single": (best.name, single)}
        tables = [partial(self._select_rows, part, rows) for part in pool.ingredients]
        counts = select_models(tables, self.labels[rows], metric)
        members = [(int(count), part) for count, part in zip(counts, pool.ingredients, strict=True) if count]
        votes = sum(count * self._select_rows(part, others) for count, part in members) / counts.sum()
        found["ensemble_selection"] = ({part.name: count for count, part in members}, np.asarray(votes))
        for request in requests:
            logger.info("cross-fitting: %s soup by %d validation images", request.recipe, len(rows))
            judge = self._judge(pool, rows, request.batchnorm)
            soup = RECIPES[request.recipe](pool, judge, **request.options)
            outputs = self._predict(soup, judge, others)
            names = [part.name for part in soup.ingredients]
            found[f"{request.recipe}_soup"] = (names, outputs)
            found[f"{request.recipe}_soup_and_best_single"] = ([*names, best.name], (outputs + single) / 2)
        return found

    def _select_rows(self, part: Ingredient, rows: np.ndarray) -> np.ndarray:
        """Return (K, C) cached probabilities of these validation images."""
        return self.context.probabilities(self.paths[part.name], ["val"])["val"][rows]

    def _with_verdict(self, part: Ingredient, rows: np.ndarray) -> Ingredient:
        """Return the ingredient with its verdict on these images only."""
        table, labels = self._select_rows(part, rows), self.labels[rows]
        score, loss = METRICS[self.context.evaluation.metric].score(table, labels), log_loss(table, labels)
        right = predictions(table) == labels
        verdict = Verdict(score, int((~right).sum()), len(right), True, loss, right.astype(np.int8))
        return replace(part, score=score, log_loss=loss, known_verdict=lambda: verdict)

    def _judge(self, pool: Pool, rows: np.ndarray, batchnorm: str | None) -> ValidationJudge:
        limit_threads(self.context.runtime.threads)
        whole = self.context.open_set("val", self.card)
        images, paths = MemoryCachedImages(whole.images.subset(rows)), tuple(whole.paths[row] for row in rows)
        part = replace(whole, images=images, labels=whole.labels[rows], groups=whole.groups[rows], paths=paths)
        verdicts = [part.known_verdict() for part in pool.ingredients if part.known_verdict is not None]
        judge = ValidationJudge(
            build_empty(self.card.architecture, self.card.classes),
            part,
            self.card.preprocessing,
            self.context.evaluation.metric,
            self.context.runtime,
            self.context.evaluation.eval_batch_size,
            np.sum([verdict.outcome == 0 for verdict in verdicts], axis=0),
        )
        choose_batchnorm(judge, self.context, pool, self.card, batchnorm)
        return judge

    def _predict(self, soup: Soup, judge: ValidationJudge, rows: np.ndarray) -> np.ndarray:
        """Return (K, C) probabilities of these images; cached ones where the soup is one model."""
        if len(soup.ingredients) == 1 and soup.coefficients == (1.0,):
            return self._select_rows(soup.ingredients[0], rows)
        judge.classifier.load_state_dict(judge.with_batchnorm(soup.state), strict=True)
        images, size = self.context.open_set("val", self.card).images, self.context.evaluation.eval_batch_size
        options = self.card.preprocessing, self.context.runtime, size
        return softmax(compute_logits(judge.classifier, images.subset(rows), *options))
