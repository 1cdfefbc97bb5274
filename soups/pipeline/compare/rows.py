"""The rows of the comparison table: the best single model, soups and votes of a run, with their predictions."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import compress
from pathlib import Path
from typing import Any

import numpy as np

from soups.checkpoints.card import Card, read_card
from soups.core.metrics import METRICS, all_scores
from soups.ensembles import RULES
from soups.ensembles.selection import select_models
from soups.pipeline.score.context import RunContext
from soups.pipeline.score.evaluate import append_if_new, pool_paths, result_line
from soups.pipeline.score.votes import best_single, vote
from soups.pipeline.soup.make import SoupRequest
from soups.pipeline.soup.pool import pool_key
from soups.recipes.registry import RECIPES
from soups.recipes.shared.options import canonical_request, recipe_options
from soups.report.comparison import ComparisonRow

SOUP_VOTED = "greedy"
"""Recipe whose soup votes together with the best single model."""

_SHOWN_VOTERS = 5


@dataclass(frozen=True)
class VoteSpec:
    """A vote: its members, its rule and their counts."""

    key: str
    """Name in the results log."""
    label: str
    """Name in the table."""
    rule: str
    """A key of `RULES`."""
    paths: tuple[Path, ...]
    counts: tuple[int, ...] | None = None
    """Votes of each member, for the rule `weighted`."""


def rows_of_run(context: RunContext, crossfitted: Mapping[str, np.ndarray] | None = None) -> list[ComparisonRow]:
    """Return the best single model, then every soup of the run, then the votes; votes are logged.

    Args:
        context: the run; models without logged scores are scored.
        crossfitted: the answers of `crossfit.CrossFit`.
    """
    answers = crossfitted or {}
    names, best = context.labelled_sets(), best_single(context)
    pool = pool_key(context.run.hashes(pool_paths(context.run).values()))
    outputs = context.probabilities(best, names)
    rows = [ComparisonRow(f"best single ({best.stem})", outputs, crossfitted=answers.get("best_single"))]
    for recipe, (path, card) in find_soups(context).items():
        note, own = card.soup.summary if card.soup else "", answers.get(f"{recipe}_soup")
        rule = request_of_soup(recipe, card).options.get("accept")
        if recipe == "greedy" and rule != recipe_options(recipe)["accept"].default:
            note = f"{note} (--accept {rule})"
        if not is_current(card, pool):
            note, own = f"{note}; made of an earlier pool, make it again", None
        outputs = context.probabilities(path, names)
        rows.append(ComparisonRow(f"{recipe} soup", outputs, note=note, crossfitted=own))
    for spec in votes_of_run(context):
        row = ComparisonRow(
            spec.label,
            evaluate_vote(context, spec),
            shares=not RULES[spec.rule].gives_probabilities,
            models=len(spec.paths),
            note=_vote_note(spec, len(pool_paths(context.run))),
            crossfitted=answers.get(spec.key),
        )
        rows.append(row)
    return rows


def find_soups(context: RunContext) -> dict[str, tuple[Path, Card]]:
    """Return recipe → file and card of each soup of the run."""
    found = {}
    for recipe in RECIPES:
        path = context.run.soup_path(recipe)
        if path.exists() and (card := read_card(path)) is not None:
            found[recipe] = path, card
    return found


def request_of_soup(recipe: str, card: Card) -> SoupRequest:
    """Return the request of a soup; options that its recipe no longer has are left out."""
    request = canonical_request(recipe, card.soup.request) if card.soup is not None else {}
    limits = {key: request.pop(key, None) for key in ("batchnorm", "evaluations", "minutes")}
    options = {key: request[key] for key in recipe_options(recipe) if key in request}
    return SoupRequest(recipe, options, **limits)


def is_current(card: Card, pool: str) -> bool:
    """Return whether a soup was made of this pool; see `pool_key`."""
    return card.soup is None or card.soup.request.get("pool") == pool


def votes_of_run(context: RunContext) -> list[VoteSpec]:
    """Return the votes of the run's fine-tunes, and that of the greedy soup with the best single model."""
    paths, best = tuple(pool_paths(context.run).values()), best_single(context)
    pool = pool_key(context.run.hashes(paths))
    counts = _selection_counts(context, paths, pool)
    selected, own_counts = tuple(compress(paths, counts)), tuple(filter(None, counts))
    votes = [
        VoteSpec("soft_vote", "soft vote", "soft", paths),
        VoteSpec("hard_vote", "hard vote", "hard", paths),
        VoteSpec("ensemble_selection", "ensemble selection", "weighted", selected, own_counts),
    ]
    for recipe, (path, card) in find_soups(context).items():
        # A soup that is the best single model itself does not vote with it.
        names = [part.name for part in card.soup.ingredients] if card.soup is not None else [best.stem]
        if recipe == SOUP_VOTED and is_current(card, pool) and names != [best.stem]:
            key, label = f"{recipe}_soup_and_best_single", f"{recipe} soup + best single"
            votes.append(VoteSpec(key, label, "soft", (path, best)))
    return votes


def _selection_counts(context: RunContext, paths: tuple[Path, ...], pool: str) -> list[int]:
    """Return the count of each model in the ensemble selection; from the log where it is known for the pool."""
    hashes, metric = context.run.hashes(paths), context.evaluation.metric
    known = context.run.results(context.run.soup_results).get("ensemble_selection", {})
    if known.get("pool") == pool and known.get("metric") == metric:
        counts = dict(zip(known["members"], known["counts"], strict=True))
        return [counts.get(sha256, 0) for sha256 in hashes]
    tables = [lambda path=path: context.probabilities(path, ["val"])["val"] for path in paths]
    return [int(count) for count in select_models(tables, context.labels("val"), METRICS[metric])]


def evaluate_vote(context: RunContext, spec: VoteSpec) -> dict[str, np.ndarray]:
    """Return set → (N, C) scores of a vote; its results are logged."""
    weights = None if spec.counts is None else np.array(spec.counts, dtype=np.float64)
    outcome = vote(context, spec.rule, spec.paths, context.labelled_sets(), weights)
    scores = {name: all_scores(values, context.labels(name)) for name, values in outcome.items()}
    if not RULES[spec.rule].gives_probabilities:  # Vote shares are not probabilities.
        for values in scores.values():
            del values["log_loss"], values["calibration_error"]
    hashes = context.run.hashes(spec.paths)
    logged: dict[str, Any] = {"members": sorted(hashes)}
    if spec.counts is not None:
        logged["counts"] = [count for _, count in sorted(zip(hashes, spec.counts, strict=True))]
        logged["pool"] = pool_key(context.run.hashes(pool_paths(context.run).values()))
        logged["metric"] = context.evaluation.metric
    append_if_new(context.run, result_line(context, spec.key, scores, **logged))
    return outcome


def _vote_note(spec: VoteSpec, models: int) -> str:
    if spec.counts is None:
        return ""
    parts = sorted(zip(spec.counts, [path.stem for path in spec.paths], strict=True), key=lambda part: -part[0])
    shown = [f"{count} × {name}" for count, name in parts[:_SHOWN_VOTERS]]
    rest = [f"{len(parts) - _SHOWN_VOTERS} more"] * (len(parts) > _SHOWN_VOTERS)
    return f"{len(parts)} of {models} models, chosen on validation: {', '.join(shown + rest)}"
