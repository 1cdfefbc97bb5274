"""Scores the models of a run: computed once, logged, and read by every later command."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from soups.core.errors import DataError, PartialFailure, UserError
from soups.core.metrics import all_scores
from soups.data.samples import evaluation_sets
from soups.files.jsonl import append_record
from soups.pipeline.run.run import Run, remove_leftovers
from soups.pipeline.score import transfer
from soups.pipeline.score.context import RunContext
from soups.runtime.launchers import make_launcher
from soups.runtime.workers import worker_number

logger = logging.getLogger(__name__)


def result_line(
    context: RunContext, model_name: str, scores: dict[str, dict[str, float]], **more: Any
) -> dict[str, Any]:
    """Returns a line of a results log: the accuracy of each set at the top level, all metrics below `metrics`."""
    accuracies = {name: values["accuracy"] for name, values in scores.items()}
    return {"model_name": model_name, **accuracies, "metrics": scores, "split": context.run.fingerprints[1], **more}


def score_model(task: tuple[RunContext, Path]) -> dict[str, Any]:
    """Score one model on every labelled set, store its logits, and return its log line."""
    context, path = task
    context = replace(context, runtime=context.runtime.for_worker(worker_number()))
    names = evaluation_sets(context.run.samples)
    found = context.probabilities(path, names)  # Includes an unlabelled test set, whose probabilities the votes need.
    scores = {name: all_scores(found[name], context.labels(name)) for name in context.labelled_sets()}
    return result_line(context, path.stem, scores, sha256=context.run.sha256(path))


def pool_paths(run: Run) -> dict[str, Path]:
    """Returns name → file of the fine-tunes of a run.

    Raises:
        DataError: the run has no fine-tunes.
    """
    paths = {path.stem: path for path in run.finetunes()}
    if not paths:
        raise DataError(
            f"{run.models}: no fine-tunes of run {run.name!r}",
            expected=f"files such as {run.model_name(0)}_epochs10.safetensors",
            next_step=f"train some: python finetune.py --name {run.name} --i 0-11",
        )
    return paths


def evaluate_individuals(context: RunContext, with_start: bool = True) -> dict[str, dict[str, Any]]:
    """Score every fine-tune of the run (and its start) that is not logged yet.

    Returns:
        Name of each fine-tune → its line in the log.

    Raises:
        PartialFailure: some models could not be scored; the scores of the others are logged.
    """
    run = context.run
    models = pool_paths(run)
    requested = {**models, run.start.stem: run.start} if with_start and run.start.exists() else models
    known = run.results(run.individual_results)
    missing = [
        path for name, path in requested.items() if name not in known or known[name].get("sha256") != run.sha256(path)
    ]
    failures = []
    if missing:
        remove_leftovers(run)
    for (_, path, *_), result in _run_scoring(context, missing):
        if isinstance(result, UserError):
            failures.append(str(result))
        elif isinstance(result, Exception):
            raise result
        else:
            append_record(run.individual_results, result)
            logger.info("%s: %s", path.stem, accuracies_text(result))
    if failures and len(missing) > len(failures):
        problem = f"{len(failures)} of {len(missing)} models could not be scored\n  " + "\n  ".join(failures)
        raise PartialFailure(problem, next_step="replace or remove them, then run the same command again")
    if failures:
        raise DataError("\n".join(failures))
    known = run.results(run.individual_results)
    return {name: known[name] for name in models}


def _run_scoring(context: RunContext, paths: Sequence[Path]) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """Yields a task, which has the path of a model, and the model's log line or an exception, as each is scored."""
    launcher = make_launcher(context.launch, context.runtime)
    if not context.launch.no_shared_storage:
        return launcher.run_all(score_model, [(context, path) for path in paths])
    run = context.run
    sent = replace(context, run=replace(run, table=None))  # The table of samples is sent once, in the packed run.
    tasks = [(sent, path, transfer.LazyFile(path)) for path in paths]
    return transfer.store_results(launcher.run_all(_score_unpacked, tasks, transfer.pack_run(run)), run)


def _score_unpacked(task: tuple[RunContext, Path, transfer.LazyFile], common: transfer.Files) -> transfer.RemoteResult:
    """Scores one model on a machine that unpacks the run first."""
    context, path, content = task
    with TemporaryDirectory() as folder:
        files = {**common, f"models/{path.name}": bytes(content)}
        run = transfer.unpack_run(files, Path(folder), context.run.name)
        line = score_model((replace(context, run=run), run.models / path.name))
        return transfer.RemoteResult(line, transfer.collect_new_files(run.folder, files))


def accuracies_text(line: dict[str, Any]) -> str:
    """Returns the accuracies of a results line as text."""
    return ", ".join(f"{name} {100 * values['accuracy']:.1f}%" for name, values in line["metrics"].items())


def append_if_new(run: Run, line: dict[str, Any]) -> None:
    """Append a line on a soup or vote unless its last line is equal."""
    if run.results(run.soup_results).get(line["model_name"]) != line:
        append_record(run.soup_results, line)
