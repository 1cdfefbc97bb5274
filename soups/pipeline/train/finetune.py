"""The command `finetune`: creates the run and its common start, then trains each unfinished fine-tune."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from soups.cli.flags import ParsedSettings
from soups.core.errors import AlreadyInProgress, EnvironmentFailure, PartialFailure, UsageError, UserError, unknown_name
from soups.core.metrics import METRICS
from soups.files.atomic import write_text
from soups.pipeline.run.create import create_run, write_run_start
from soups.pipeline.run.recorded_models import record_missing_models
from soups.pipeline.run.run import Run, warn_if_validation_flatters
from soups.pipeline.settings.commands import FinetuneSettings
from soups.pipeline.train.distributed import train_in_group
from soups.pipeline.train.epoch_log import tail_of_log
from soups.pipeline.train.one_model import train_one
from soups.pipeline.train.plan import Task, parse_indices, plan
from soups.pipeline.train.remote import train_remotely
from soups.runtime.devices import Runtime, prefer_determinism
from soups.runtime.launchers import LaunchSettings, make_launcher, require_launcher
from soups.runtime.process_group import join_group
from soups.training.optimizers import require_optimizer

logger = logging.getLogger(__name__)


def finetune(parsed: ParsedSettings[FinetuneSettings]) -> None:
    """Train the requested models that are not finished.

    Raises:
        UsageError: invalid settings, or settings that differ from the recorded ones.
        DataError: invalid images or labels.
        PartialFailure: some of several models failed; the others are finished.
    """
    with join_group(parsed.settings.runtime.device) as group:
        if group.size == 1:
            train_all(_plan_tasks(parsed), parsed.settings.launch)
        else:
            train_in_group(_plan_tasks, parsed, group)


def _plan_tasks(parsed: ParsedSettings[FinetuneSettings]) -> list[Task]:
    """Create the run if it is new; returns the fine-tunes to train.

    Raises:
        UsageError: the optimiser does not exist, or the network has fewer stages than --freeze says.
    """
    from soups.models.build import build_without_storage
    from soups.models.stages import check_stage_count

    indices = parse_indices(parsed.settings.i) if parsed.settings.i is not None else None
    recorded = _recorded_models(parsed, indices)
    run, settings, runtime = open_for_training(parsed.settings, parsed.names)
    record_missing_models(run)
    if recorded:
        tasks = [task for index, own in recorded.items() for task in plan(run, own, runtime, [index])]
    else:
        tasks = plan(run, settings, runtime, indices)
    if tasks:
        require_optimizer(settings.training)
    if tasks and settings.training.freeze:
        card = run.card_of(run.start)
        backbone = build_without_storage(card.architecture, card.classes, str(run.start)).backbone
        check_stage_count(backbone, settings.training.freeze, card.architecture.name)
    return tasks


def _recorded_models(
    parsed: ParsedSettings[FinetuneSettings], indices: Sequence[int] | None
) -> dict[int, FinetuneSettings]:
    """Returns index → settings of the models to repeat from a run's settings file; empty without such a file.

    Raises:
        UsageError: an index is not in the file.
    """
    sections = parsed.config.sections if parsed.config is not None else {}
    models = {name: section.values["i"] for name, section in sections.items() if "i" in section.values}
    recorded = {int(index): parsed.sections[name].settings for name, index in models.items()}
    if recorded and (unknown := [index for index in indices or () if index not in recorded]):
        raise UsageError(
            f"--i {unknown[0]}: {parsed.config.path if parsed.config else ''} has no such model",
            expected=f"one of {', '.join(map(str, recorded))}",
            next_step="leave --config out to train another one",
        )
    return {index: recorded[index] for index in (recorded if indices is None else indices) if recorded}


def open_for_training(settings: FinetuneSettings, given: frozenset[str]) -> tuple[Run, FinetuneSettings, Runtime]:
    """Returns run, settings with the run's values, and runtime; creates the run and its start if missing.

    Args:
        settings: settings of the command.
        given: names of the settings that the user gave.

    Raises:
        UsageError: invalid settings, or settings that differ from the recorded ones.
        DataError: invalid images or labels.
    """
    if settings.deterministic:
        prefer_determinism()
    if settings.evaluation.metric not in METRICS:
        raise unknown_name("metric", settings.evaluation.metric, METRICS)
    require_launcher(settings.launch)
    run = create_run(settings, given)
    if "metric" not in given:
        recorded = settings.evaluation.model_copy(update={"metric": run.recorded.metric})
        settings = settings.model_copy(update={"evaluation": recorded})
    warn_if_validation_flatters(run)
    runtime = run.runtime(settings.runtime).model_copy(update={"deterministic": settings.deterministic})
    write_text(Path(settings.run.runs_folder) / "latest", run.name + "\n")
    if not run.start.exists():
        write_run_start(run)
    return run, settings, runtime


def train_all(tasks: Sequence[Task], launch: LaunchSettings) -> None:
    """Train several fine-tunes in parallel.

    Args:
        tasks: fine-tunes with one runtime.
        launch: settings of the launcher.

    Raises:
        PartialFailure: some of several failed; the others are finished.
    """
    if not tasks:
        return
    failures, errors = list[str](), list[Exception]()
    for task, result in _run_tasks(tasks, launch):
        if isinstance(result, Exception):
            reason = str(result)
            if not isinstance(result, UserError):
                logger.error("%s failed", task.name, exc_info=result)
                reason = f"{type(result).__name__}: {result}"
            errors.append(result)
            failures.append(f"{task.name}: {reason.removeprefix(f'{task.name}: ')}{tail_of_log(task)}")
    all_failed = len(failures) == len(tasks)
    if all_failed and len(tasks) == 1:
        raise errors[0]
    if failures:
        # If all failed because of the machine, such as a full disk, the exit code says so.
        is_environment = all_failed and all(isinstance(error, EnvironmentFailure) for error in errors)
        others = "" if all_failed else "; the others are kept"
        raise (EnvironmentFailure if is_environment else PartialFailure)(
            f"{len(failures)} of {len(tasks)} fine-tunes failed{others}\n  " + "\n  ".join(failures),
            next_step="remove the cause and run the same command again: finished models are not trained again",
        )


def _run_tasks(tasks: Sequence[Task], launch: LaunchSettings) -> Iterator[tuple[Task, Path | Exception]]:
    """Yields each fine-tune with its path or error; fine-tunes that another process is training are waited for at the
    end."""
    launcher, later = make_launcher(launch, tasks[0].runtime), list[Task]()
    remote = launch.no_shared_storage
    run_all = partial(train_remotely, launcher, train_one) if remote else partial(launcher.run_all, train_one)
    for task, result in run_all([replace(task, waits=len(tasks) == 1) for task in tasks]):
        if isinstance(result, AlreadyInProgress):
            later.append(replace(task, waits=True))
        else:
            yield task, result
    yield from run_all(later)
