"""The honest table and the paper's figure: best single model, soups and votes of a run side by side."""

import logging
from pathlib import Path
from typing import Any

import numpy as np

from soups.checkpoints import read_card
from soups.errors import DataError
from soups.metrics import all_scores
from soups.pipeline.evaluate import Bench, append_if_new, evaluate_individuals, pool_paths, result_line
from soups.pipeline.pool import pool_key
from soups.pipeline.votes import best_single, vote
from soups.recipes import RECIPES
from soups.records import read_records, write_table, write_text
from soups.report import comparison, scatter

logger = logging.getLogger(__name__)

_VOTES = {"soft vote": "soft", "hard vote": "hard"}
_ORIGINAL_FILES = ("individual_model_results.jsonl", "uniform_soup_results.jsonl", "greedy_soup_results.jsonl")


def print_comparison(bench: Bench) -> None:
    """Print the table and keep it in the run's output as CSV and Markdown."""
    names = bench.labelled_sets()
    sets = {name: comparison.Truth(bench.labels(name), bench.groups(name)) for name in names}
    best, pool = best_single(bench), pool_key(bench.run.hashes(pool_paths(bench.run).values()))
    contenders = [comparison.Contender(f"best single ({best.stem})", bench.probabilities(best, names))]
    for recipe in RECIPES:
        path = bench.run.soup_path(recipe)
        if path.exists():
            outputs = bench.probabilities(path, names)
            contenders.append(comparison.Contender(f"{recipe} soup", outputs, note=_soup_note(path, pool)))
    for label, outputs in _log_votes(bench).items():
        contenders.append(comparison.Contender(label, outputs, shares=_VOTES[label] == "hard"))
    shifts = [name for name in names if name not in ("val", "test")]
    rows = comparison.compare(contenders, sets, shifts=shifts)
    _keep(bench, rows)
    print(_heading(bench, shifts))
    print(comparison.format_table(rows))


def _soup_note(path: Path, pool: str) -> str:
    """What the recipe says of its soup, and whether the run has other models by now."""
    card = read_card(path)
    if card is None or card.soup is None:
        return ""
    stale = card.soup.request.get("pool") != pool
    return card.soup.summary + "; made of an earlier pool, make it again" * stale


def _heading(bench: Bench, shifts: list[str]) -> str:
    run = bench.run
    groups = len(set(bench.groups("test"))) if "test" in bench.labelled_sets() else 0
    images = len(bench.labels("test")) if groups else 0
    tested = f"{images} test images of {groups} groups" if groups != images else f"{images} test images"
    parts = [f"run {run.name}: {len(pool_paths(run))} fine-tunes, {len(bench.labels('val'))} validation images"]
    parts += [tested] * bool(images) + [f"shifts {', '.join(shifts)}"] * bool(shifts)
    return ", ".join(parts)


def _log_votes(bench: Bench) -> dict[str, dict[str, np.ndarray]]:
    """Vote of all fine-tunes → set → (N, C) what they say together; kept in the log of results."""
    paths = list(pool_paths(bench.run).values())
    members = sorted(bench.run.sha256(path) for path in paths)
    names = bench.labelled_sets()
    outcomes = {}
    for label, rule in _VOTES.items():
        outcomes[label] = vote(bench, rule, paths, names)
        scores = {name: all_scores(values, bench.labels(name)) for name, values in outcomes[label].items()}
        if rule == "hard":  # Vote shares are no probabilities.
            scores = {name: _without_probabilities(values) for name, values in scores.items()}
        append_if_new(bench.run, result_line(bench, label.replace(" ", "_"), scores, members=members))
    return outcomes


def _without_probabilities(scores: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in scores.items() if name not in ("log_loss", "calibration_error")}


def _keep(bench: Bench, rows: list[dict[str, Any]]) -> None:
    import pandas as pd

    folder = bench.run.folder / "output"
    write_table(folder / "comparison.csv", pd.DataFrame(rows))
    write_text(folder / "comparison.md", comparison.markdown_table(rows) + "\n")


def plot_run(bench: Bench) -> None:
    """Draw the paper's figure from the run's results; prints the picture's path."""
    run = bench.run
    evaluate_individuals(bench)
    _log_votes(bench)
    names = bench.labelled_sets()
    shifts = [name for name in names if name not in ("val", "test")]
    if "test" not in names or not shifts:
        raise DataError(
            f"run {run.name!r}: the figure needs a labelled test set and shift sets",
            found=f"labels for {', '.join(names)}",
            next_step="add test/<class>/… and shifts/<name>/<class>/… to the data, and start a new run",
        )
    lines = {**run.results(run.individual_results), **run.results(run.soup_results)}
    lines.pop("hard_vote", None)  # The paper's figure has one ensemble, the mean of probabilities.
    points = scatter.points_of(list(lines.values()), shifts=shifts)
    path = run.folder / "figures" / "soups.png"
    scatter.draw_scatter(points, path, title=f"{run.name}: soups, their ingredients and their vote", shifts=shifts)
    print(path)


def plot_original(folder: Path, val_set: str, test_set: str) -> None:
    """Draw the figure from result files of the original model-soups code, beside them; prints the picture's path.

    Raises:
        DataError: the folder has none of the files, or no model has results on all sets.
    """
    records = [line for name in _ORIGINAL_FILES for line in read_records(folder / name)]
    if not records:
        expected = " or ".join(_ORIGINAL_FILES)
        raise DataError(f"{folder}: no result files of the original code", expected=expected)
    if test_set == "test" and all("test" not in line for line in records):
        val_set, test_set = scatter.ORIGINAL_VAL, scatter.ORIGINAL_TEST
    shifts = scatter.shift_names(records, val_set, test_set)
    points = scatter.points_of(records, test=test_set, shifts=shifts, kinds={"model_0": "start"})
    path = folder / "soups.png"
    scatter.draw_scatter(points, path, shifts=shifts)
    print(path)
