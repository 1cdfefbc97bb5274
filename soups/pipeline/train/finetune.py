"""What `finetune.py` does: the run and its common start, then each fine-tune that is not finished."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from soups.cli import flags as cli
from soups.core.errors import AlreadyInProgress, EnvironmentFailure, PartialFailure, UserError, unknown_name
from soups.core.metrics import METRICS
from soups.files.atomic import write_text
from soups.pipeline.run.create import create_run, write_run_start
from soups.pipeline.run.run import Run, warn_if_validation_flatters
from soups.pipeline.settings.commands import FinetuneSettings
from soups.pipeline.train.distributed import train_in_group
from soups.pipeline.train.early_workers import early_workers
from soups.pipeline.train.epoch_log import tail_of_log
from soups.pipeline.train.one_model import train_one
from soups.pipeline.train.plan import Task, parse_indices, plan
from soups.pipeline.train.remote import train_remotely
from soups.runtime.devices import Runtime, prefer_determinism
from soups.runtime.launchers import Launcher, LaunchSettings, Local, make_launcher, require_launcher
from soups.runtime.process_group import join_group
from soups.runtime.workers import WorkerPool
from soups.training.optimizers import require_optimizer

if TYPE_CHECKING:
    pass

logger = logging.getLogger(__name__)


def finetune(given: cli.ParsedSettings[FinetuneSettings]) -> None:
    """Train the models that the settings ask for, as far as they are not finished.

    Raises:
        UsageError: settings that make no sense or differ from what the run recorded.
        DataError: images or labels that are not what they should be.
        PartialFailure: some of several models failed; the others are kept.
    """
    with join_group(given.settings.runtime.device) as group:
        if group.size == 1:
            with early_workers(given.settings) as crew:
                train_all(_planned(given), given.settings.launch, crew)
        else:
            train_in_group(_planned, given, group)


def _planned(given: cli.ParsedSettings[FinetuneSettings]) -> list[Task]:
    """The fine-tunes that are to be trained, in a run that is there."""
    indices = parse_indices(given.settings.i) if given.settings.i is not None else None
    run, settings, runtime = open_for_training(given.settings, given.names)
    tasks = plan(run, settings, runtime, indices)
    if tasks:
        require_optimizer(settings.training)
        if settings.training.freeze:
            _check_freeze(run, settings.training.freeze)
    return tasks


def open_for_training(settings: FinetuneSettings, given: frozenset[str]) -> tuple[Run, FinetuneSettings, Runtime]:
    """The run to train in with its common start, made where they are missing, and the settings as the run has them.

    Args:
        settings: of the command.
        given: names of the settings that the user gave.

    Raises:
        UsageError: settings that make no sense or differ from what the run recorded.
        DataError: images or labels that are not what they should be.
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


def _check_freeze(run: Run, count: int) -> None:
    """Raise before anything is trained where the network has fewer stages than are to be frozen."""
    from soups.models.build import build_without_storage
    from soups.models.stages import check_stage_count

    card = run.card_of(run.start)
    check_stage_count(
        build_without_storage(card.architecture, card.classes, str(run.start)).backbone, count, card.architecture.name
    )


def train_all(tasks: Sequence[Task], launch: LaunchSettings, crew: WorkerPool | None = None) -> None:
    """Train what is asked for, several side by side.

    Args:
        tasks: of one runtime.
        launch: where.
        crew: processes that are there already.

    Raises:
        PartialFailure: some of several failed; the others are kept.
    """
    failures, errors = list[str](), list[Exception]()
    if not tasks:
        return
    launcher = make_launcher(launch, tasks[0].runtime) if crew is None else Local(crew.number, crew)
    for task, result in _trained(tasks, launch, launcher):
        name = f"{task.run_name}{task.index}"
        if isinstance(result, Exception):
            told = str(result)
            if not isinstance(result, UserError):
                logger.error("%s failed", name, exc_info=result)
                told = f"{type(result).__name__}: {result}"
            errors.append(result)
            failures.append(f"{name}: {told}{tail_of_log(task)}")
    if len(failures) == len(tasks) == 1:
        raise errors[0]
    if failures:
        # Where none could be made and the machine is why, such as a full disk, that is what the exit code says.
        machine = len(failures) == len(tasks) and all(isinstance(error, EnvironmentFailure) for error in errors)
        kept = "" if len(failures) == len(tasks) else "; the others are kept"
        raise (EnvironmentFailure if machine else PartialFailure)(
            f"{len(failures)} of {len(tasks)} fine-tunes failed{kept}\n  " + "\n  ".join(failures),
            next_step="mend the cause and run the same command again: it trains only what is missing",
        )


def _trained(
    tasks: Sequence[Task], launch: LaunchSettings, launcher: Launcher
) -> Iterator[tuple[Task, Path | Exception]]:
    """Each fine-tune with its path or what went wrong; what another process is at is left to it until the end."""
    later: list[Task] = []

    def results(some: Sequence[Task]) -> Iterator[tuple[Task, Path | Exception]]:
        return (
            train_remotely(launcher, train_one, some) if launch.no_shared_storage else launcher.run_all(train_one, some)
        )

    for task, result in results([replace(task, waits=len(tasks) == 1) for task in tasks]):
        if isinstance(result, AlreadyInProgress):
            later.append(replace(task, waits=True))
        else:
            yield task, result
    yield from results(later)
