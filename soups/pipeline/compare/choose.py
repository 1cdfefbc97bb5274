"""Chooses what answers by default, by cross-fitted scores of the validation images, and records it."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from soups.core.errors import DataError, UsageError
from soups.core.metrics import METRICS
from soups.ensembles.choice import (
    FEWEST_GROUPS,
    STANDARD_ERRORS,
    STATISTICS,
    Choice,
    choose,
    merge_groups,
    sums_of_answers,
)
from soups.files.jsonl import append_record
from soups.pipeline.compare.crossfit import CrossFit, cross_fit
from soups.pipeline.compare.rows import find_soups, request_of_soup, votes_of_run
from soups.pipeline.run.run import Run
from soups.pipeline.score.choice import CANDIDATES, choice_log, read_choice, soup_names
from soups.pipeline.score.context import RunContext
from soups.pipeline.score.evaluate import pool_paths
from soups.pipeline.score.votes import best_single
from soups.pipeline.soup.make import SoupRequest, make_soup
from soups.pipeline.soup.pool import pool_key

logger = logging.getLogger(__name__)

_MADE = ("uniform", "greedy", "greedy_log_loss")
"""Candidates that `--choose` makes where the run lacks them; `learned` takes gradients and all models in memory."""
_VOTES = ("soft_vote", "ensemble_selection")
_LIMITS = (
    "Cross-fitting scores the way a model is made, not its file; early stopping, and a search if there was one, have"
    " seen all validation images."
)


def make_choice(context: RunContext, measure: str, *, votes: bool) -> str:
    """Make the candidates that the run lacks, choose among all, record the choice and return it in words.

    Args:
        context: the run.
        measure: the metric to choose by.
        votes: votes are candidates, too.

    Raises:
        UsageError: the measure is a plugin's metric.
        DataError: there are fewer than two validation images.
    """
    if measure not in STATISTICS:
        raise UsageError(f"--choose by {measure}", expected=f"--metric of {', '.join(STATISTICS)}")
    there = [request.recipe for request in current_requests(context)]
    for recipe in _MADE:
        if recipe not in there:
            logger.info("--choose makes the %s soup", recipe)
            make_soup(context, SoupRequest(recipe))
    crossfit = cross_fit(context, current_requests(context))
    if crossfit is None:
        raise DataError(
            f"run {context.run.name!r}: no validation images to choose by",
            expected="two or more",
            next_step="name the model that predicts: python inference.py --model-name M",
        )
    return describe(_record(context, crossfit, measure, votes), context.run)


def up_to_date_choice(context: RunContext, crossfit: CrossFit) -> str:
    """Return the recorded choice in words; it is made of the run's models where there is none of these models."""
    line = read_choice(context.run)
    if line is not None and line["metric"] != context.evaluation.metric:  # The report is by another --metric.
        return describe(line, context.run)
    if line is None or line["candidates"] != _hashes(context, line["votes_allowed"]):
        if line is not None:
            logger.info("the models or soups differ from those of the recorded choice: it is made again")
        measure, votes = ("log_loss", False) if line is None else (line["measure"], line["votes_allowed"])
        line = _record(context, crossfit, measure, votes)
    return describe(line, context.run)


def current_requests(context: RunContext) -> list[SoupRequest]:
    """Return the requests of candidates that the run has of its present models, with the statistics that they have."""
    pool = pool_key(context.run.hashes(pool_paths(context.run).values()))
    wanted = {"pool": pool, "metric": context.evaluation.metric}
    found, requests = find_soups(context), []
    for recipe in CANDIDATES:
        card = found[recipe][1] if recipe in found else None
        if card is not None and card.soup is not None and wanted.items() <= card.soup.request.items():
            statistics = card.soup.options.get("batchnorm", {}).get("statistics")
            requests.append(replace(request_of_soup(recipe, card), batchnorm=statistics))
    return requests


def _hashes(context: RunContext, votes: bool) -> dict[str, str]:
    """Return candidate → what it is now: hash of the best single model and of each soup; of all models for votes."""
    run = context.run
    paths = {request.recipe: run.soup_path(request.recipe) for request in current_requests(context)}
    hashes = {f"{recipe}_soup": run.sha256(path) for recipe, path in paths.items()}
    pool = pool_key(run.hashes(pool_paths(run).values()))
    return {"best_single": run.sha256(best_single(context)), **hashes, **(dict.fromkeys(_VOTES, pool) if votes else {})}


def _record(context: RunContext, crossfit: CrossFit, measure: str, votes: bool) -> dict[str, Any]:
    """Choose and append the choice to the log of the run; return its line."""
    run = context.run
    hashes, best = _hashes(context, votes), best_single(context)
    names = [name for name in hashes if name in crossfit.answers]
    outcome = _choose(crossfit, names, measure)
    alone = [name for name in names if name not in _VOTES]
    chosen, single_cost = names[outcome.chosen], alone[_choose(crossfit, alone, measure).chosen]
    files = {name: best if name == "best_single" else run.soup_path(name.removesuffix("_soup")) for name in alone}
    vote = next((spec for spec in votes_of_run(context) if spec.key == chosen), None)
    line = {
        "answer": files[chosen].stem if vote is None else chosen,
        "chosen": chosen,
        "model": files[single_cost].stem,
        "sha256": hashes[single_cost],
        "vote": None
        if vote is None
        else {
            "name": "soft_voting" if chosen == "soft_vote" else chosen,
            "members": {path.stem: run.sha256(path) for path in vote.paths},
            "counts": None if vote.counts is None else list(vote.counts),
        },
        "candidates": hashes,
        "losses": dict(zip(names, outcome.losses.tolist(), strict=True)),
        "rival": names[outcome.rival],
        "standard_error": outcome.error,
        "standard_errors": STANDARD_ERRORS,
        "p": outcome.p,
        "best_single": best.stem,
        "measure": measure,
        "metric": context.evaluation.metric,
        "votes_allowed": votes,
        "folds": int(crossfit.folds.max()) + 1,
        "groups": len(np.unique(crossfit.groups)),
        "images": len(crossfit.labels),
        "models": list(pool_paths(run)),
        "soups": soup_names(run),
        "split": run.fingerprints[1],
    }
    if read_choice(run) != line:
        append_record(choice_log(run), line)
    return line


def _choose(crossfit: CrossFit, names: Sequence[str], measure: str) -> Choice:
    answers = np.stack([crossfit.answers[name] for name in names])
    units = merge_groups(crossfit.groups, crossfit.folds)
    sums = sums_of_answers(measure, answers, crossfit.labels, units)
    first = np.unique(units, return_index=True)[1]
    return choose(sums, crossfit.folds[first], statistic=STATISTICS[measure])


def describe(line: dict[str, Any], run: Run) -> str:
    """Return a recorded choice as text, whose last line says what to use, and with which command."""
    losses, measure = line["losses"], line["measure"]
    many = {"groups": line["groups"], "images": line["images"]}
    of = f"{many['images']} validation images" + (
        "" if many["groups"] == many["images"] else f", {many['groups']} groups"
    )
    scores = ", ".join(f"{name} {_format(measure, loss)}" for name, loss in sorted(losses.items(), key=lambda x: x[1]))
    texts = [f"cross-fitted {measure.replace('_', '-')} ({line['folds']} folds, {of}): {scores}", _LIMITS]
    if many["groups"] < FEWEST_GROUPS:
        texts.append(f"Too few groups to be sure: {many['groups']}.")
    return "\n".join([*texts, _sentence(line, run)])


def _sentence(line: dict[str, Any], run: Run) -> str:
    losses, measure, chosen = line["losses"], line["measure"], line["chosen"]
    command = f"python inference.py --name {run.name}"
    if len(losses) == 1:
        return f"Use {line['answer']}: no soup was tried (python main.py --name {run.name} --choose); {command}"
    best, single = (_format(measure, losses[name]) for name in (line["rival"], "best_single"))
    if chosen == "best_single":
        kind = "soup or vote" if line["votes_allowed"] else "soup"
        slightly = f" by more than a standard error ({line['rival']} {best}, best single model {single})"
        luck = slightly if losses[line["rival"]] < losses["best_single"] else ""
        return f"Use {line['answer']}: no {kind} is better{luck}; {command}"
    p = "" if line["p"] is None else f" (max-T p = {line['p']:.2g})"
    measured = f"cross-fitted {measure.replace('_', '-')} {best}, best single model {single}{p}"
    return f"Use {line['answer']}: {measured}; {command}"


def _format(measure: str, loss: float) -> str:
    return f"{100 * (1 - loss):.1f}%" if METRICS[measure].higher_is_better else f"{loss:.3f}"
