"""What `finetune.py` does: the run and its common start, then each fine-tune that is not finished."""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from soups.checkpoints.checkpoint import SUFFIX, Card, read_card, write_checkpoint
from soups.cli import flags as cli
from soups.core.errors import AtWork, EnvironmentFailure, PartialFailure, UserError, unknown_name
from soups.core.metrics import METRICS
from soups.core.signals import held_back
from soups.data.augment.augment import augmented_preprocessing
from soups.data.samples import set_rows
from soups.files.atomic import fingerprint, locked, write_text
from soups.pipeline.run.create import create_run, make_start
from soups.pipeline.run.images import evaluation_set, training_set
from soups.pipeline.run.run import Run, existing_run, say_if_flattering
from soups.pipeline.settings.commands import FinetuneSettings
from soups.pipeline.train.early_workers import early_workers
from soups.pipeline.train.epoch_log import EpochLog, epoch_text, last_lines
from soups.pipeline.train.plan import Task, asked_for, parse_indices, plan, training_record
from soups.pipeline.train.remote import train_remotely
from soups.runtime.devices import Runtime, prefer_determinism
from soups.runtime.launchers import Launcher, LaunchSettings, Local, launcher_of, require_launcher
from soups.runtime.process_group import ALONE, ProcessGroup, joined
from soups.runtime.workers import Crew, worker_number
from soups.training.optimizers import require_optimizer
from soups.training.search_space import start_file
from soups.training.state import StateFile

if TYPE_CHECKING:
    from soups.training.finetune import Finetune, Outcome

logger = logging.getLogger(__name__)

OnEpoch = Callable[[dict[str, Any]], None]


def finetune(given: cli.Given[FinetuneSettings]) -> None:
    """Train the models that the settings ask for, as far as they are not finished.

    Raises:
        UsageError: settings that make no sense or differ from what the run recorded.
        DataError: images or labels that are not what they should be.
        PartialFailure: some of several models failed; the others are kept.
    """
    with joined(given.settings.runtime.device) as group:
        if group.size == 1:
            with early_workers(given.settings) as crew:
                train_all(_planned(given), given.settings.launch, crew)
        else:
            from soups.pipeline.train.distributed import train_in_group

            train_in_group(_planned, given, group)


def _planned(given: cli.Given[FinetuneSettings]) -> list[Task]:
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
    say_if_flattering(run)
    runtime = run.runtime(settings.runtime).model_copy(update={"deterministic": settings.deterministic})
    write_text(Path(settings.run.runs_folder) / "latest", run.name + "\n")
    if not run.start.exists():
        make_start(run)
    return run, settings, runtime


def _check_freeze(run: Run, count: int) -> None:
    """Raise before anything is trained where the network has fewer stages than are to be frozen."""
    from soups.models.build import build_hollow
    from soups.models.stages import check_stages

    card = run.card_of(run.start)
    check_stages(build_hollow(card.architecture, card.classes, str(run.start)).backbone, count, card.architecture.name)


def train_all(tasks: Sequence[Task], launch: LaunchSettings, crew: Crew | None = None) -> None:
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
    launcher = launcher_of(launch, tasks[0].runtime) if crew is None else Local(crew.number, crew)
    for task, result in _trained(tasks, launch, launcher):
        name = f"{task.run_name}{task.index}"
        if isinstance(result, Exception):
            told = str(result)
            if not isinstance(result, UserError):
                logger.error("%s failed", name, exc_info=result)
                told = f"{type(result).__name__}: {result}"
            errors.append(result)
            failures.append(f"{name}: {told}{last_lines(task)}")
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
        if isinstance(result, AtWork):
            later.append(replace(task, waits=True))
        else:
            yield task, result
    yield from results(later)


def train_one(task: Task, watch: OnEpoch | None = None, group: ProcessGroup = ALONE) -> Path:
    """Fine-tune one model and write it; runs in a process of its own, on its own device, where there are several jobs.

    Args:
        task: what to train.
        watch: called with each line of the model's log, once it is there; what it raises ends the training.
        group: processes that train it together, of which this is the first; the others `follow`.

    Returns:
        The checkpoint's path.
    """
    task = replace(task, runtime=task.runtime.of_worker(worker_number()))
    settings = task.settings
    run = existing_run(settings.run, task.run_name)
    assert run is not None
    name = f"{run.name}{task.index}"
    path = run.models / f"{name}_epochs{task.training.epochs}{SUFFIX}"
    with locked(run.models, name, wait=task.waits):
        wanted = training_record(run, settings, task.training, task.index, task.runtime)
        if path != task.replaces and path.exists() and _same_training(path, wanted):
            logger.info("%s: finished meanwhile by another process", path)
            group.of_leader(False)
            return path
        group.of_leader(True)
        _train(task, run, path, wanted, watch, group)
        if task.replaces is not None and task.replaces != path:
            task.replaces.unlink(missing_ok=True)
    return path


def _same_training(path: Path, wanted: dict[str, Any]) -> bool:
    card = read_card(path)
    return card is not None and asked_for(card) == wanted


def follow(task: Task, group: ProcessGroup) -> None:
    """Take part in a fine-tune that the first process of the group trains; ends when it is trained or finished."""
    if group.of_leader(None):
        run = existing_run(task.settings.run, task.run_name)
        assert run is not None
        wanted = training_record(run, task.settings, task.training, task.index, task.runtime)
        _prepared(task, run, wanted, group, lambda line: None).finetune.run()


def _train(
    task: Task, run: Run, path: Path, record: dict[str, Any], watch: OnEpoch | None, group: ProcessGroup
) -> None:
    from soups.pipeline.train.trackers import open_tracker

    settings, name = task.settings, f"{run.name}{task.index}"
    tracker = open_tracker(settings.wandb, run.name, name, record)
    log = EpochLog(run.training_log(task.index), fingerprint(record))

    def on_epoch(line: dict[str, Any]) -> None:
        log.append(line)
        tracker.log(line)
        logger.info("%s", epoch_text(name, line, task.training, settings.evaluation.metric))
        if watch is not None:
            watch(line)

    with closing(tracker):
        prepared = _prepared(task, run, record, group, on_epoch)
        outcome = prepared.finetune.run()
    card = prepared.start.model_copy(
        update={
            "kind": "fine-tune",
            "preprocessing": prepared.finetune.preprocessing,
            "training": {**record, **_how_it_went(task.runtime, outcome, group)},
            "start": run.sha256(prepared.beginning),
            "scores": {"val": outcome.scores},
        }
    )
    with held_back() as interruption:  # It is quicker to finish now.
        write_checkpoint(path, outcome.state, card)
        run.state_path(task.index).unlink(missing_ok=True)  # The way to it is not needed any more.
        logger.info("%s: written", path)
        if interruption.number is not None:
            raise interruption.exception()


@dataclass(frozen=True)
class _Prepared:
    """A fine-tune that can begin."""

    finetune: "Finetune"
    start: Card
    """Of the run's start."""
    beginning: Path
    """The weights that this one begins with."""


def _prepared(task: Task, run: Run, record: dict[str, Any], group: ProcessGroup, on_epoch: OnEpoch) -> _Prepared:
    from soups.models.load import load_classifier
    from soups.training.finetune import Finetune

    settings, beginning = task.settings, run.start
    classifier, start = load_classifier(run.start, classes=run.space.names)
    if task.training.start_from is not None:
        beginning = _own_start(Path(task.training.start_from), task.index)
        classifier, _ = load_classifier(
            beginning, architecture=start.architecture, classes=run.space.names, preprocessing=start.preprocessing
        )
    preprocessing = augmented_preprocessing(start.preprocessing, task.training.augmentation)
    depends_on = [
        fingerprint(record),
        run.sha256(beginning),
        *run.fingerprints,
        *(["sharded"] if group.sharded else []),
    ]
    finetune = Finetune(
        classifier=classifier,
        training=training_set(run, task.training, preprocessing, settings.cache),
        validation=evaluation_set("val", set_rows(run.samples, "val"), run, preprocessing, settings.cache),
        settings=task.training,
        index=task.index,
        preprocessing=preprocessing,
        metric=settings.evaluation.metric,
        runtime=task.runtime,
        eval_batch_size=settings.evaluation.eval_batch_size,
        on_epoch=on_epoch,
        file=StateFile(run.state_path(task.index), fingerprint(depends_on), settings.save_minutes),
        group=group,
    )
    return _Prepared(finetune, start, beginning)


def _how_it_went(runtime: Runtime, outcome: "Outcome", group: ProcessGroup) -> dict[str, Any]:
    """What a card tells of a training beside what was asked for."""
    told: dict[str, Any] = {"device": runtime.device.split(":")[0]}
    if runtime.deterministic and told["device"] != "cpu":
        told["deterministic"] = True
    if outcome.part is not None:
        told["micro_batch_size"] = outcome.part
    if group.size > 1:
        told["processes"] = group.size
    if group.sharded:
        told["sharded"] = True
    return told


def _own_start(place: Path, index: int) -> Path:
    return place if place.is_file() else start_file(place, index)
