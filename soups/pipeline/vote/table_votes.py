"""The vote over prediction tables that a command requests."""

import logging
from dataclasses import dataclass
from operator import eq
from pathlib import Path

import numpy as np

from soups.core.errors import UsageError
from soups.data.layouts.schema import is_schema
from soups.ensembles import MAJORITIES, RULES, combine_tables, parse_members, split_member, vote_tables
from soups.files.aligned_tables import read_all
from soups.files.table_writers import write_pages
from soups.files.tables import is_table
from soups.pipeline.run.prediction_space import find_table, space_of_tables
from soups.pipeline.settings.commands import InferenceSettings
from soups.pipeline.vote.answer_files import AnswerFiles
from soups.pipeline.vote.ensemble_spec import rule_and_members

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TableVote:
    """The tables that vote, and how."""

    rule: str
    """A key of `RULES`."""
    paths: tuple[Path, ...]
    weights: np.ndarray | None
    """(M,) weights of the tables, for rules that take weights."""


def find_tables(settings: InferenceSettings, flag: str | None) -> TableVote | None:
    """Return the prediction tables that vote; None if models do.

    Args:
        settings: settings of `inference.py`.
        flag: `soft_voting`, `weighted_ensemble`, `hard_voting`, `vote`, or None for single models.

    Raises:
        UsageError: tables and models are mixed, or the rule needs weights and there are none.
    """
    members = (*(settings.model_name or ()), *((getattr(settings, flag) if flag else None) or ()))
    if not any(is_table(split_member(name)[0]) for name in members):
        return None
    if flag is None:
        raise UsageError(
            f"--model-name {members[0]}: a table, not a model",
            expected="models, or a way of voting over tables",
            next_step=f"python validation.py --predictions {members[0]} --ground-truth TRUTH.csv shows how good it is",
        )
    rule, words = rule_and_members(settings, flag)
    names, weights = parse_members((*(settings.model_name or ()), *words))
    if others := [name for name in names if not is_table(name)]:
        more = "" if rule in MAJORITIES else " --probabilities"
        raise UsageError(
            f"--{flag.replace('_', '-')}: {others[0]} is not a CSV",
            expected="models alone or CSVs alone",
            next_step=f"write the model's predictions first: python inference.py --model-name {others[0]}{more}",
        )
    if settings.formula != "exponents":
        raise UsageError(f"--formula {settings.formula} joins models, not tables", next_step="omit --formula")
    if weights is not None and not RULES[rule].takes_weights:
        raise UsageError(f"--{flag.replace('_', '-')} takes no weights", next_step="use --weighted-ensemble")
    if weights is None and RULES[rule].takes_weights:
        raise UsageError(
            f"--{flag.replace('_', '-')}: tables without weights, which are fitted only for models",
            expected="TABLE=WEIGHT for each table",
            next_step=f"--weighted-ensemble {' '.join(f'{name}=1' for name in names)}, or --soft-voting",
        )
    return TableVote(rule, tuple(map(Path, names)), weights)


def vote_on_tables(settings: InferenceSettings, vote: TableVote, run_folder: Path | None) -> None:
    """Vote over prediction tables without reading models or images; prints the path of the result.

    Raises:
        UsageError: the vote is split by factors, and the labels have none.
        DataError: a table is not valid, or the tables differ in images or classes.
    """
    if settings.launch.launcher != "local":
        problem = f"--launcher {settings.launch.launcher}: voting over tables runs locally"
        raise UsageError(problem, next_step="omit --launcher")
    if settings.probabilities or settings.sample_submission is not None:
        logger.info(
            "a vote over tables has the columns of the first: no effect of --probabilities, --sample-submission"
        )
    space = None
    # The latest run may be unrelated to the tables, so it is used only for a split by its factors.
    if settings.run.name or settings.split or is_schema(settings.data.layout):
        space = space_of_tables(settings, vote.paths[0])[1]
    if settings.split and (space is None or len(space.factors) < 2):
        raise UsageError(
            "--split: no factors to split by",
            expected="tables of a run whose labels have factors (--name), or a layout with factors (--layout profile)",
            found=str(space or "labels without declared factors"),
        )
    if vote.rule in MAJORITIES:
        table = vote_tables(vote.paths, space, split=vote.rule == "split")
    else:
        table = combine_tables(vote.paths, RULES[vote.rule], vote.weights, space)
    ids = table.iloc[:, 0].tolist()
    files = AnswerFiles(settings, run_folder, None, ids)
    output = files.path(f"{vote.rule}_vote_of_tables")
    write_pages(output, [table])
    files.record(output)
    print(output)
    if settings.ground_truth is not None:
        truth = find_table(Path(settings.ground_truth), "--ground-truth")
        voted, known = read_all([output, truth], space)
        right = sum(map(eq, voted.labels, known.labels))
        logger.info("%d of %d right (%.1f%%)", right, len(known.ids), 100 * right / len(known.ids))
