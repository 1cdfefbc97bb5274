"""The command `finetune`: creates the run and its common start, then trains each unfinished fine-tune."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from soups.checkpoints.card import read_card
from soups.cli.flags import ParsedSettings
from soups.core.errors import AlreadyInProgress, EnvironmentFailure, PartialFailure, UsageError, UserError, unknown_name
from soups.core.metrics import METRICS
from soups.core.notes import hold_notices
from soups.files.atomic import write_text
from soups.pipeline.run.create import create_run, open_or_plan_run, require_trainable, write_run_start
from soups.pipeline.run.recorded_models import record_missing_models
from soups.pipeline.run.refused_start import discard_refused_runs
from soups.pipeline.run.run import Run, warn_if_validation_flatters
from soups.pipeline.settings.commands import FinetuneSettings, RunSettings
from soups.pipeline.train.announce import NOTICES, announcement
from soups.pipeline.train.distributed import train_in_group
from soups.pipeline.train.epoch_log import tail_of_log
from soups.pipeline.train.last_run import show_last_run
from soups.pipeline.train.one_batch import take_one_step
from soups.pipeline.train.one_model import train_one
from soups.pipeline.train.plan import Task, parse_indices, plan
from soups.pipeline.train.pool_progress import PoolProgress
from soups.pipeline.train.pool_table import show_pool
from soups.pipeline.train.remote import train_remotely
from soups.runtime.devices import Runtime, prefer_determinism
from soups.runtime.launchers import LaunchSettings, make_launcher, require_launcher
from soups.runtime.process_group import join_group
from soups.training.optimizers import require_optimizer

logger = logging.getLogger(__name__)


def finetune(parsed: ParsedSettings[FinetuneSettings]) -> None:
    """Train the requested models that are not finished; prints what it will do, and the pool when it is done.

    Raises:
        UsageError: invalid settings, or settings that differ from the recorded ones.
        DataError: invalid images or labels.
        PartialFailure: some of several models failed; the others are finished.
    """
    with discard_refused_runs(parsed.settings.run), join_group(parsed.settings.runtime.device) as group:
        if not parsed.names:
            return show_last_run(parsed.settings.run) if group.is_main else None
        if parsed.settings.dry_run is not None:
            return _dry_run(parsed) if group.is_main else None
        opened = list[Run]()

        def plan_tasks(parsed: ParsedSettings[FinetuneSettings]) -> list[Task]:
            run, tasks = _plan_tasks(parsed)
            opened.append(run)
            return tasks

        try:
            if group.size == 1:
                train_all(plan_tasks(parsed), parsed.settings.launch)
            else:
                train_in_group(plan_tasks, parsed, group)
        except PartialFailure:
            show_pool(opened[0])
            raise
        for run in opened:  # The main process of a group has planned.
            show_pool(run)


def _plan_tasks(parsed: ParsedSettings[FinetuneSettings]) -> tuple[Run, list[Task]]:
    """Create the run if it is new; prints what will be trained, and returns the run and the fine-tunes to train."""
    with hold_notices(*NOTICES) as notes:
        requested = _requested(parsed)
        run, settings, runtime = open_for_training(parsed.settings, parsed.names)
        record_missing_models(run)
        tasks = _plan_requested(requested, run, settings, runtime)
    if tasks:
        logger.info("%s", announcement(run, runtime, tasks, notes))
    return run, tasks


def _plan_requested(
    requested: Sequence[int] | dict[int, FinetuneSettings] | None,
    run: Run,
    settings: FinetuneSettings,
    runtime: Runtime,
) -> list[Task]:
    """Returns the fine-tunes to train.

    Args:
        requested: see `_requested`.
        run: recorded or planned.
        settings: of the command, with the run's values.
        runtime: of the run.

    Raises:
        UsageError: the optimiser does not exist, or the network has fewer stages than --freeze says.
    """
    from soups.models.build import build_without_storage, describe
    from soups.models.stages import check_stage_count

    if isinstance(requested, dict):
        tasks = [task for index, own in requested.items() for task in plan(run, own, runtime, [index])]
    else:
        tasks = plan(run, settings, runtime, requested)
    if tasks:
        require_optimizer(settings.training)
    if tasks and settings.training.freeze:
        card = read_card(run.start) if run.start.exists() else None
        architecture = card.architecture if card is not None else describe(run.recorded.model)[0]
        backbone = build_without_storage(architecture, run.space.names, str(run.start)).backbone
        check_stage_count(backbone, settings.training.freeze, architecture.name)
    return tasks


def _requested(parsed: ParsedSettings[FinetuneSettings]) -> Sequence[int] | dict[int, FinetuneSettings] | None:
    """Returns the indices of `--i`, or index → settings of the models to repeat from a run's settings file.

    Raises:
        UsageError: an index is not in the file.
    """
    indices = parse_indices(parsed.settings.i) if parsed.settings.i is not None else None
    sections = parsed.config.sections if parsed.config is not None else {}
    models = {name: section.values["i"] for name, section in sections.items() if "i" in section.values}
    recorded = {int(index): parsed.sections[name].settings for name, index in models.items()}
    if not recorded:
        return indices
    if unknown := [index for index in indices or () if index not in recorded]:
        raise UsageError(
            f"--i {unknown[0]}: {parsed.config.path if parsed.config else ''} has no such model",
            expected=f"one of {', '.join(map(str, recorded))}",
            next_step="leave --config out to train another one",
        )
    return {index: recorded[index] for index in (recorded if indices is None else indices)}


def _dry_run(parsed: ParsedSettings[FinetuneSettings]) -> None:
    """Print what would be trained; with `one-batch`, also what one step of the first fine-tune gives.

    A run that does not exist is made in a temporary folder for that step.
    """
    with TemporaryDirectory() as folder:
        with hold_notices(*NOTICES) as notes:
            requested = _requested(parsed)
            _check_settings(parsed.settings)
            run, exists = open_or_plan_run(parsed)
            require_trainable(run)
            settings, runtime = _with_recorded(parsed.settings, parsed.names, run)
            tasks = _plan_requested(requested, run, settings, runtime)
        print(announcement(run, runtime, tasks, notes), flush=True)
        if parsed.settings.dry_run and tasks:
            if not exists:
                elsewhere = {"run": RunSettings(name=run.name, runs_folder=folder), "new": False}
                with hold_notices(*NOTICES) as notes:
                    run, _, _ = open_for_training(parsed.settings.model_copy(update=elsewhere), parsed.names)
                for text in (note.text for note in notes if note.kind == "warning" and folder in note.text):
                    print(text.partition(f"; listed in {folder}")[0])
            elif not run.start.exists():
                run = replace(run, models=Path(folder))
                write_run_start(run)
            print(take_one_step(tasks[0], run, tasks))
    if tasks:
        print("dry run: nothing was trained")


def open_for_training(settings: FinetuneSettings, given: frozenset[str]) -> tuple[Run, FinetuneSettings, Runtime]:
    """Returns run, settings with the run's values, and runtime; creates the run and its start if missing.

    Args:
        settings: settings of the command.
        given: names of the settings that the user gave.

    Raises:
        UsageError: invalid settings, or settings that differ from the recorded ones.
        DataError: invalid images or labels.
    """
    _check_settings(settings)
    run = create_run(settings, given)
    settings, runtime = _with_recorded(settings, given, run)
    write_text(Path(settings.run.runs_folder) / "latest", run.name + "\n")
    if not run.start.exists():
        write_run_start(run)
    return run, settings, runtime


def _check_settings(settings: FinetuneSettings) -> None:
    """Raise an error for settings that are wrong for any run.

    Raises:
        UsageError: metric or launcher are wrong.
    """
    if settings.deterministic:
        prefer_determinism()
    if settings.evaluation.metric not in METRICS:
        raise unknown_name("metric", settings.evaluation.metric, METRICS)
    require_launcher(settings.launch)


def _with_recorded(settings: FinetuneSettings, given: frozenset[str], run: Run) -> tuple[FinetuneSettings, Runtime]:
    """Returns settings with the run's metric, and the runtime of the run."""
    if "metric" not in given:
        recorded = settings.evaluation.model_copy(update={"metric": run.recorded.metric})
        settings = settings.model_copy(update={"evaluation": recorded})
    warn_if_validation_flatters(run)
    return settings, run.runtime(settings.runtime).model_copy(update={"deterministic": settings.deterministic})


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
    failures, errors, progress = list[str](), list[Exception](), PoolProgress(tasks)
    with progress.follow():
        for task, result in _run_tasks(tasks, launch, progress.is_live):
            progress.finish(task)
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


def _run_tasks(tasks: Sequence[Task], launch: LaunchSettings, quiet: bool) -> Iterator[tuple[Task, Path | Exception]]:
    """Yields each fine-tune with its path or error; fine-tunes that another process is training are waited for at the
    end. Quiet workers only warn."""
    launcher, later = make_launcher(launch, tasks[0].runtime), list[Task]()
    remote = launch.no_shared_storage
    run_all = partial(train_remotely, launcher, train_one) if remote else partial(launcher.run_all, train_one)
    waits = len(tasks) == 1
    for task, result in run_all([replace(each, waits=waits, quiet=quiet, is_first=each is tasks[0]) for each in tasks]):
        if isinstance(result, AlreadyInProgress):
            later.append(replace(task, waits=True))
        else:
            if quiet and not isinstance(result, Exception):
                logger.info("%s: written", result)
            yield task, result
    yield from run_all(later)
