"""The comparison table of a run, and the scatter figure of Wortsman et al. 2022."""

from pathlib import Path
from typing import Any

import pandas as pd

from soups.checkpoints.checkpoint import SUFFIX
from soups.core.errors import DataError
from soups.files.atomic import write_table, write_text
from soups.files.jsonl import read_records
from soups.pipeline.compare.choose import current_requests, up_to_date_choice
from soups.pipeline.compare.crossfit import CrossFit, cross_fit
from soups.pipeline.compare.rows import VoteSpec, evaluate_vote, rows_of_run
from soups.pipeline.score.context import RunContext
from soups.pipeline.score.evaluate import evaluate_individuals, pool_paths
from soups.pipeline.score.throughput import images_per_second
from soups.pipeline.score.votes import best_single
from soups.report import comparison
from soups.report.figures import accuracies, alpha_curve, scatter

_ORIGINAL_FILES = ("individual_model_results.jsonl", "uniform_soup_results.jsonl", "greedy_soup_results.jsonl")


def print_comparison(context: RunContext) -> None:
    """Print the comparison table and the choice; write the table to the run's output as CSV and Markdown."""
    crossfit = cross_fit(context, current_requests(context))
    rows, shifts = _compare(context, crossfit, images_per_second(context, best_single(context))), shift_sets(context)
    folder = context.run.folder / "output"
    write_table(folder / "comparison.csv", pd.DataFrame(rows))
    write_text(folder / "comparison.md", comparison.markdown_comparison(rows) + "\n")
    print(_heading(context, shifts), comparison.format_comparison(rows), sep="\n")
    if crossfit is not None:
        print(up_to_date_choice(context, crossfit))


def _compare(context: RunContext, crossfit: CrossFit | None, speed: float | None = None) -> list[dict[str, Any]]:
    entries = rows_of_run(context, None if crossfit is None else crossfit.answers)
    sets = {name: comparison.SetTruth(context.labels(name), context.groups(name)) for name in context.labelled_sets()}
    return comparison.compare(entries, sets, shifts=shift_sets(context), speed=speed)


def shift_sets(context: RunContext) -> list[str]:
    """Return the shift sets, whose accuracies are averaged."""
    return [name for name in context.labelled_sets() if name not in ("val", "test")]


def _heading(context: RunContext, shifts: list[str]) -> str:
    run = context.run
    groups = len(set(context.groups("test"))) if "test" in context.labelled_sets() else 0
    images = len(context.labels("test")) if groups else 0
    tested = f"{images} test images of {groups} groups" if groups != images else f"{images} test images"
    parts = [f"run {run.name}: {len(pool_paths(run))} fine-tunes, {len(context.labels('val'))} validation images"]
    parts += [tested] * bool(images) + [f"shifts {', '.join(shifts)}"] * bool(shifts)
    return ", ".join(parts)


def plot_run(context: RunContext) -> None:
    """Draw the figure of the run's results, and the WiSE-FT figure where there is one; print their paths.

    The figure is the paper's, test accuracy against accuracy under shift; where either is unknown, accuracies with
    intervals.
    """
    run = context.run
    _plot_alphas(context)
    evaluate_individuals(context)
    ensemble = VoteSpec("soft_vote", "soft vote", "soft", tuple(pool_paths(run).values()))
    evaluate_vote(context, ensemble)
    names, shifts = context.labelled_sets(), shift_sets(context)
    path = run.folder / "figures" / "soups.png"
    if "test" not in names or not shifts:
        rows = _compare(context, cross_fit(context, current_requests(context)))
        accuracies.draw_accuracies(rows, path, f"{run.name}: models, soups and votes")
        print(path)
        return
    logged = run.results(run.soup_results)
    soups = {name for name, line in logged.items() if "sha256" in line and (run.models / f"{name}{SUFFIX}").exists()}
    # The figure of the paper has one ensemble, the mean of probabilities.
    drawn = {name: line for name, line in logged.items() if name in soups} | {ensemble.key: logged[ensemble.key]}
    lines = run.results(run.individual_results) | drawn
    kinds: dict[str, scatter.Kind] = {name: "soup" for name in soups if scatter.guess_kind(name) == "individual"}
    points = scatter.points_from_records(list(lines.values()), shifts=shifts, kinds=kinds)
    scatter.draw_scatter(points, path, title=f"{run.name}: soups, their ingredients and their vote", shifts=shifts)
    print(path)


def _plot_alphas(context: RunContext) -> None:
    """Draw the WiSE-FT figure, if models were interpolated with their start."""
    run, metric = context.run, context.evaluation.metric
    curve = alpha_curve.curve_from_decisions(read_records(run.folder / "logs" / "wise_ft_soup.jsonl"), metric)
    if curve is not None:
        path = run.folder / "figures" / "wise_ft.png"
        title = f"{run.name}: between the start and the uniform soup"
        alpha_curve.draw_alpha_curve(curve, path, metric=metric, title=title)
        print(path)


def plot_original(folder: Path, val_set: str, test_set: str) -> None:
    """Draw the scatter figure from result files of the original model-soups code, beside them; print its path.

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
    points = scatter.points_from_records(records, test=test_set, shifts=shifts, kinds={"model_0": "start"})
    path = folder / "soups.png"
    scatter.draw_scatter(points, path, title="Accuracy on the test set and under shift", shifts=shifts)
    print(path)
