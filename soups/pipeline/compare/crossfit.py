"""Cross-fitted answers: models are chosen on some folds of the validation images and predict the other fold."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np

from soups.checkpoints.card import Card
from soups.core.metrics import METRICS
from soups.core.scores import log_loss, predictions, softmax
from soups.data.images.memory_cache import MemoryCachedImages
from soups.ensembles.choice import FOLDS, assign_folds
from soups.ensembles.selection import select_models
from soups.ensembles.temperature import fit_temperature, scale_by_temperature, to_log_probabilities
from soups.evaluation.judge import ValidationJudge
from soups.evaluation.logits import EvaluationSet, compute_logits
from soups.files.atomic import fingerprint, write_array
from soups.files.jsonl import append_record, read_records
from soups.models.build import build_empty
from soups.pipeline.compare.rows import SOUP_VOTED
from soups.pipeline.score.context import RunContext
from soups.pipeline.score.evaluate import pool_paths
from soups.pipeline.soup.batchnorm import choose_batchnorm
from soups.pipeline.soup.make import SoupRequest
from soups.pipeline.soup.pool import pool_key, pool_of
from soups.recipes.registry import RECIPES
from soups.recipes.shared.pool import Ingredient, Pool, Soup, Verdict
from soups.runtime.devices import limit_threads

logger = logging.getLogger(__name__)

_SEED = 0  # Seed of the folds.
_MOST_ALONE = 0.1  # Largest share of images whose class no other fold has; beyond it, folds are made by image.


@dataclass(frozen=True)
class CrossFit:
    """Answers for validation images by models that were chosen, and calibrated, without the image's fold."""

    answers: Mapping[str, np.ndarray]
    """`best_single`, `soft_vote`, `ensemble_selection`, `<recipe>_soup`, and `greedy_soup_and_best_single` → (N, 3)
    float64: predicted class, its probability, probability of the true class; after temperature scaling."""
    folds: np.ndarray
    """(N,) int64."""
    groups: np.ndarray
    """(N,) units that folds keep whole: the groups or, where folds are made by image, the images' numbers."""
    labels: np.ndarray
    """(N,) int64."""


def cross_fit(context: RunContext, requests: Sequence[SoupRequest]) -> CrossFit | None:
    """Return the answers of the best single model, soups and votes for validation images that did not choose them.

    For each fold, everything is chosen on the other folds: the best single model, the soup of each recipe, its vote
    with the best single model, the ensemble selection, and the temperature of each. Choosing on four fifths of the
    images is slightly worse than on all, so scores of these answers are low, as plain validation is high.

    The summary is logged in `logs/crossfit.jsonl` for each pool, metric and options; the answers are stored beside the
    logits.

    Args:
        context: the run.
        requests: the soups; their budgets are ignored here. A recipe that chooses nothing (uniform) answers by the soup
            that the run has.

    Returns:
        None with fewer than two validation images.
    """
    run = context.run
    if (run.samples["split"] == "val").sum() < 2:
        return None
    labels, groups = context.labels("val"), context.groups("val")
    folds, whole = divide(labels, groups)
    key = fingerprint(
        {
            "pool": pool_key(run.hashes(pool_paths(run).values())),
            "split": run.fingerprints[1],
            "metric": context.evaluation.metric,
            "precision": context.runtime.precision,
            "soups": {request.recipe: {"batchnorm": request.batchnorm, **request.options} for request in requests},
            "folds": folds.tolist(),
        }
    )
    log, file = run.folder / "logs" / "crossfit.jsonl", run.folder / "logits" / f"crossfit_{key[:16]}.npy"
    line = next((line for line in reversed(read_records(log)) if line.get("key") == key), None)
    names = list(line["scores"]) if line is not None else []
    stored = _read_answers(file, (len(names), len(labels), 3)) if names else None
    if stored is None:
        if not whole:
            logger.warning("cross-fitting: the validation images cannot be divided by group; divided by image")
        found, chosen = _measure(context, requests, folds)
        names = sorted(found)  # As the log has them.
        stored = np.stack([found[name] for name in names])
        write_array(file, stored)
        if line is None:
            scores = {name: _scores(answers, labels) for name, answers in found.items()}
            sizes = np.bincount(folds).tolist()
            append_record(log, {"key": key, "scores": scores, "chosen": chosen, "images": sizes, "whole_groups": whole})
    units = groups if whole else np.arange(len(labels))
    return CrossFit(dict(zip(names, stored, strict=True)), folds, units, labels)


def divide(labels: np.ndarray, groups: np.ndarray) -> tuple[np.ndarray, bool]:
    """Divide images into folds, groups kept whole where possible.

    Returns:
        (N,) int64, the fold of each image; and whether groups are whole. They are not where all images are of one
        group, or where groups hold classes of their own, so that the other folds would lack them.
    """
    folds = assign_folds(labels, groups, FOLDS, _SEED)
    names = np.unique(groups)
    if len(names) == len(labels):
        return folds, True
    spread = np.array([len(set(folds[labels == label])) > 1 for label in range(int(labels.max()) + 1)])
    if len(names) > 1 and np.mean(~spread[labels]) <= _MOST_ALONE:
        return folds, True
    return assign_folds(labels, np.arange(len(labels)), FOLDS, _SEED), False


def _read_answers(file: Path, shape: tuple[int, ...]) -> np.ndarray | None:
    try:
        stored = np.load(file, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return stored if stored.shape == shape and stored.dtype == np.float64 else None


def _scores(answers: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    right, true_class = answers[:, 0] == labels, np.clip(answers[:, 2], np.finfo(np.float64).eps, 1)
    return {"accuracy": float(right.mean()), "log_loss": float(-np.log(true_class).mean())}


def _measure(
    context: RunContext, requests: Sequence[SoupRequest], folds: np.ndarray
) -> tuple[dict[str, np.ndarray], dict[str, list[Any]]]:
    """Return name → answers (N, 3), and name → what was chosen for each fold."""
    labels = context.labels("val")
    answers: dict[str, np.ndarray] = {}
    chosen: dict[str, list[Any]] = {}
    chooser = _Chooser(context, labels, pool_paths(context.run), *pool_of(context))
    for fold in range(int(folds.max()) + 1):
        rows, others = np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)
        for name, what, table in chooser.outcomes(rows, requests):
            temperature = fit_temperature(to_log_probabilities(table[rows]), labels[rows])
            scaled = scale_by_temperature(table[others], temperature)
            parts = [scaled.argmax(axis=1), scaled.max(axis=1), scaled[np.arange(len(others)), labels[others]]]
            answers.setdefault(name, np.empty((len(labels), 3)))[others] = np.stack(parts, axis=1)
            chosen.setdefault(name, []).append(what)
    return answers, chosen


@dataclass(frozen=True)
class _Chooser:
    """Chooses models on some of the validation images and predicts all of them."""

    context: RunContext
    labels: np.ndarray
    paths: Mapping[str, Path]
    pool: Pool
    card: Card

    @cached_property
    def validation(self) -> EvaluationSet:
        """The validation set, its images in memory after they are first read."""
        limit_threads(self.context.runtime.threads)
        whole = self.context.open_set("val", self.card)
        return replace(whole, images=MemoryCachedImages(whole.images))

    def outcomes(self, rows: np.ndarray, requests: Sequence[SoupRequest]) -> Iterator[tuple[str, Any, np.ndarray]]:
        """Yield name, what was chosen on the images `rows`, and its (N, C) probabilities of all images."""
        metric = METRICS[self.context.evaluation.metric]
        pool = replace(self.pool, ingredients=tuple(self._with_verdict(part, rows) for part in self.pool.ingredients))
        best = min(pool.ingredients, key=lambda part: (-part.score, part.log_loss, part.name))
        single = self._table(self.paths[best.name])
        yield "best_single", best.name, single
        yield "soft_vote", len(pool.ingredients), self._vote({part.name: 1 for part in pool.ingredients})
        tables = [partial(self._rows_of, part.name, rows) for part in pool.ingredients]
        counts = select_models(tables, self.labels[rows], metric)
        members = {part.name: int(count) for part, count in zip(pool.ingredients, counts, strict=True) if count}
        yield "ensemble_selection", members, self._vote(members)
        for request in requests:
            if not RECIPES[request.recipe].needs_judge:
                yield f"{request.recipe}_soup", None, self._table(self.context.run.soup_path(request.recipe))
                continue
            logger.info("cross-fitting: %s soup by %d validation images", request.recipe, len(rows))
            judge = self._judge(pool, rows, request.batchnorm)
            soup = RECIPES[request.recipe](pool, judge, **request.options)
            outputs = self._predict(soup, judge)
            names = [part.name for part in soup.ingredients]
            yield f"{request.recipe}_soup", names, outputs
            if request.recipe == SOUP_VOTED:
                yield f"{request.recipe}_soup_and_best_single", [*names, best.name], (outputs + single) / 2

    def _table(self, path: Path) -> np.ndarray:
        """Return cached probabilities of the validation images, (N, C)."""
        return self.context.probabilities(path, ["val"])["val"]

    def _rows_of(self, name: str, rows: np.ndarray) -> np.ndarray:
        return self._table(self.paths[name])[rows]

    def _vote(self, counts: Mapping[str, int]) -> np.ndarray:
        votes = sum(count * self._table(self.paths[name]) for name, count in counts.items())
        return np.asarray(votes) / sum(counts.values())

    def _with_verdict(self, part: Ingredient, rows: np.ndarray) -> Ingredient:
        """Return the ingredient with its verdict on these images only."""
        table, labels = self._rows_of(part.name, rows), self.labels[rows]
        score, loss = METRICS[self.context.evaluation.metric].score(table, labels), log_loss(table, labels)
        right = predictions(table) == labels
        verdict = Verdict(score, int((~right).sum()), len(right), True, loss, right.astype(np.int8))
        return replace(part, score=score, log_loss=loss, known_verdict=lambda: verdict)

    def _judge(self, pool: Pool, rows: np.ndarray, batchnorm: str | None) -> ValidationJudge:
        whole = self.validation
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

    def _predict(self, soup: Soup, judge: ValidationJudge) -> np.ndarray:
        """Return (N, C) probabilities of all validation images; cached ones where the soup is one model."""
        if len(soup.ingredients) == 1 and soup.coefficients == (1.0,):
            return self._table(self.paths[soup.ingredients[0].name])
        judge.classifier.load_state_dict(judge.with_batchnorm(soup.state), strict=True)
        options = self.card.preprocessing, self.context.runtime, self.context.evaluation.eval_batch_size
        return softmax(compute_logits(judge.classifier, self.validation.images, *options))
