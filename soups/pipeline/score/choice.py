"""The recorded choice of the model or vote that answers by default; `pipeline/compare/choose.py` makes it."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from soups.checkpoints.checkpoint import SUFFIX
from soups.files.jsonl import read_records
from soups.pipeline.run.run import Run
from soups.pipeline.score.context import RunContext
from soups.pipeline.score.votes import best_single

logger = logging.getLogger(__name__)

CANDIDATES = ("greedy", "greedy_log_loss", "learned", "uniform")
"""Recipes whose soups are candidates, in the order that breaks ties."""


@dataclass(frozen=True)
class Answer:
    """What predicts by default: one model, or a vote."""

    name: str
    """File name of its predictions, without ending."""
    paths: tuple[Path, ...]
    rule: str = "soft"
    """A key of `RULES`."""
    weights: np.ndarray | None = None
    """(M,), for `weighted`."""


def choice_log(run: Run) -> Path:
    """Return the log of the choices of a run; its last line counts."""
    return run.folder / "logs" / "choice.jsonl"


def read_choice(run: Run) -> dict[str, Any] | None:
    """Return the recorded choice for the run's split, if there is one."""
    lines = read_records(choice_log(run))
    return next((line for line in reversed(lines) if line["split"] == run.fingerprints[1]), None)


def soup_names(run: Run) -> list[str]:
    """Return the names of the run's soups that are candidates."""
    return [path.stem for path in map(run.soup_path, CANDIDATES) if path.exists()]


def changes_since(run: Run, choice: dict[str, Any]) -> str:
    """Return how the models and soups of a run differ from those that a choice compared; empty if they do not."""
    models = {path.stem for path in run.finetunes()}
    texts = []
    for now, then, what in ((models, choice["models"], "fine-tune"), (set(soup_names(run)), choice["soups"], "soup")):
        for number, word in ((len(now - set(then)), "more"), (len(set(then) - now), "fewer")):
            texts += [f"{number} {what}{'s' * (number > 1)} {word}"] * (number > 0)
    return ", ".join(texts)


def default_answer(context: RunContext) -> Answer:
    """Return what predicts where the user names no model: the recorded choice, else `default_model`.

    Nothing is compared anew; what has changed since the choice is said.
    """
    choice = read_choice(context.run)
    vote = None if choice is None else choice["vote"]
    if vote is None or choice is None:
        path = default_model(context)
        return Answer(path.stem, (path,))
    _say_changes(context.run, choice)
    paths = tuple(_find(context.run, name) for name in vote["members"])
    hashes = list(vote["members"].values())
    if any(path is None or context.run.sha256(path) != sha256 for path, sha256 in zip(paths, hashes, strict=True)):
        logger.warning("a member of the chosen vote is gone or has changed: %s", _next_step(context.run))
        path = default_model(context)
        return Answer(path.stem, (path,))
    weights = None if vote["counts"] is None else np.array(vote["counts"], dtype=np.float64)
    members = tuple(path for path in paths if path is not None)
    return Answer(vote["name"], members, "soft" if weights is None else "weighted", weights)


def default_model(context: RunContext) -> Path:
    """Return the chosen model if a choice is recorded, else the greedy soup if it exists, else the best fine-tune."""
    run = context.run
    choice = read_choice(run)
    chosen = None if choice is None else _find(run, choice["model"])
    if choice is not None:
        if choice["vote"] is None:
            _say_changes(run, choice)
        if chosen is None:
            logger.warning("%s, which was chosen, is gone: %s", choice["model"], _next_step(run))
        elif run.sha256(chosen) != choice["sha256"]:
            logger.warning("%s has changed since it was chosen: %s", choice["model"], _next_step(run))
    soup = run.soup_path("greedy")
    if chosen is None:
        chosen = soup if soup.exists() else best_single(context)
        if choice is None:
            kind = "the greedy soup" if chosen == soup else "the best single model by validation"
            logger.info("%s: %s, because no choice is recorded; %s", chosen.stem, kind, _next_step(run))
    return chosen


def _find(run: Run, name: str) -> Path | None:
    """Return the fine-tune or soup of this name."""
    soup = run.models / f"{name}{SUFFIX}"
    return soup if soup.exists() else {path.stem: path for path in run.finetunes()}.get(name)


def _say_changes(run: Run, choice: dict[str, Any]) -> None:
    if changes := changes_since(run, choice):
        logger.warning("the choice of %s is older than the pool (%s): %s", choice["answer"], changes, _next_step(run))


def _next_step(run: Run) -> str:
    return f"python main.py --name {run.name} --choose compares the models that there are now"
