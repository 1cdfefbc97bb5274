"""What `finetune.py` does: the run and its common start, then each fine-tune that is not finished."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from soups import cli
from soups.checkpoints import SUFFIX, read_card, write_checkpoint
from soups.data.augment import augmented_preprocessing
from soups.data.samples import set_rows
from soups.errors import PartialFailure, UsageError, UserError, unknown_name
from soups.launch import worker_number
from soups.launchers import LaunchSettings, launcher_of, require_launcher
from soups.metrics import METRICS
from soups.pipeline.away import fetched
from soups.pipeline.creation import create_run, make_start
from soups.pipeline.plan import Task, parse_indices, plan, training_record
from soups.pipeline.run import Run, existing_run, say_if_flattering
from soups.pipeline.sets import evaluation_set, training_set
from soups.pipeline.settings import FinetuneSettings
from soups.records import append_record, fingerprint, locked, read_records, write_text
from soups.training.optimizers import require_optimizer
from soups.training.settings import TrainingSettings

logger = logging.getLogger(__name__)

_LINES_TOLD = 3
"""Of the log of a fine-tune that failed."""


def finetune(given: cli.Given[FinetuneSettings]) -> None:
    """Train the models that the settings ask for, as far as they are not finished.

    Raises:
        UsageError: settings that make no sense or differ from what the run recorded.
        DataError: images or labels that are not what they should be.
        PartialFailure: some of several models failed; the others are kept.
    """
    settings = given.settings
    if settings.evaluation.metric not in METRICS:
        raise unknown_name("metric", settings.evaluation.metric, METRICS)
    indices = parse_indices(settings.i) if settings.i is not None else None
    require_launcher(settings.launch)
    run = create_run(settings, given.names)
    if "metric" not in given.names:
        recorded = settings.evaluation.model_copy(update={"metric": run.recorded.metric})
        settings = settings.model_copy(update={"evaluation": recorded})
    say_if_flattering(run)
    runtime = run.runtime(settings.runtime)
    write_text(Path(settings.run.runs_folder) / "latest", run.name + "\n")
    if not run.start.exists():
        make_start(run)
    tasks = plan(run, settings, runtime, indices)
    if not tasks:
        return
    require_optimizer(settings.training)
    if settings.training.freeze:
        _check_freeze(run, settings.training.freeze)
    train_all(tasks, settings.launch)


def _check_freeze(run: Run, count: int) -> None:
    """Raise before anything is trained where the network has fewer stages than are to be frozen."""
    from soups.models.build import build_hollow
    from soups.models.stages import check_stages

    card = run.card_of(run.start)
    check_stages(build_hollow(card.architecture, card.classes, str(run.start)).backbone, count, card.architecture.name)


def train_all(tasks: Sequence[Task], launch: LaunchSettings) -> None:
    """Train what is asked for, several side by side.

    Args:
        tasks: of one runtime.
        launch: where.

    Raises:
        PartialFailure: some of several failed; the others are kept.
    """
    failures: list[str] = []
    if not tasks:
        return
    launcher = launcher_of(launch, tasks[0].runtime)
    results = fetched(launcher, train_one, tasks) if launch.no_shared_storage else launcher.run_all(train_one, tasks)
    for task, result in results:
        name = f"{task.run_name}{task.index}"
        if isinstance(result, Exception):
            error, told = result, str(result)
            if not isinstance(result, UserError):
                logger.error("%s failed", name, exc_info=result)
                told = f"{type(result).__name__}: {result}"
            failures.append(f"{name}: {told}{_last_lines(task)}")
    if failures and len(tasks) == 1:
        raise error
    if failures:
        raise PartialFailure(
            f"{len(failures)} of {len(tasks)} fine-tunes failed; the others are kept\n  " + "\n  ".join(failures),
            next_step="mend the cause and run the same command again: it trains only what is missing",
        )


def _last_lines(task: Task) -> str:
    """The end of a fine-tune's log, for the message that tells why it failed."""
    run = existing_run(task.settings.run, task.run_name)
    assert run is not None
    log = _log_of(run.folder, task.index)
    key = fingerprint(training_record(run, task.settings, task.training, task.index, task.runtime))
    lines = [line for line in read_records(log) if line.get("settings") == key][-_LINES_TOLD:]
    if not lines:
        return ""
    name, metric = f"{task.run_name}{task.index}", task.settings.evaluation.metric
    told = "".join(f"\n      {_epoch_text(name, line, task.training, metric)}" for line in lines)
    return f"\n    the last lines of {log}:{told}"


def _log_of(folder: Path, index: int) -> Path:
    return folder / "logs" / "training" / f"{folder.name}{index}.jsonl"


def train_one(task: Task) -> Path:
    """Fine-tune one model and write it; runs in a process of its own, on its own device, where there are several jobs.

    Returns:
        The checkpoint's path.
    """
    task = replace(task, runtime=task.runtime.of_worker(worker_number()))
    settings = task.settings
    run = existing_run(settings.run, task.run_name)
    assert run is not None
    name = f"{run.name}{task.index}"
    path = run.models / f"{name}_epochs{task.training.epochs}{SUFFIX}"
    with locked(run.models, name):
        wanted = training_record(run, settings, task.training, task.index, task.runtime)
        if path != task.replaces and path.exists() and _same_training(path, wanted):
            logger.info("%s: finished meanwhile by another process", path)
            return path
        _train(task, run, path, wanted)
        if task.replaces is not None and task.replaces != path:
            task.replaces.unlink(missing_ok=True)
    return path


def _same_training(path: Path, wanted: dict[str, Any]) -> bool:
    card = read_card(path)
    return card is not None and {**card.training, "device": ""} == {**wanted, "device": ""}


def _train(task: Task, run: Run, path: Path, record: dict[str, Any]) -> None:
    from soups.models.load import load_classifier
    from soups.pipeline.tracking import open_tracker
    from soups.training.finetune import Finetune

    settings, name = task.settings, f"{run.name}{task.index}"
    classifier, start = load_classifier(run.start, classes=run.space.names)
    beginning = run.start
    if task.training.start_from is not None:
        beginning = _own_start(Path(task.training.start_from), task.index)
        classifier, _ = load_classifier(
            beginning, architecture=start.architecture, classes=run.space.names, preprocessing=start.preprocessing
        )
    preprocessing = augmented_preprocessing(start.preprocessing, task.training.augmentation)
    validation = evaluation_set("val", set_rows(run.samples, "val"), run, preprocessing, settings.cache)
    log, settings_key = _log_of(run.folder, task.index), fingerprint(record)
    tracker = open_tracker(settings.wandb, run.name, name, record)

    def on_epoch(line: dict[str, Any]) -> None:
        append_record(log, {"settings": settings_key, **line})
        tracker.log(line)
        logger.info("%s", _epoch_text(name, line, task.training, settings.evaluation.metric))

    outcome = Finetune(
        classifier=classifier,
        training=training_set(run, task.training, preprocessing, settings.cache),
        validation=validation,
        settings=task.training,
        index=task.index,
        preprocessing=preprocessing,
        metric=settings.evaluation.metric,
        runtime=task.runtime,
        eval_batch_size=settings.evaluation.eval_batch_size,
        on_epoch=on_epoch,
    ).run()
    tracker.close()
    card = start.model_copy(
        update={
            "kind": "fine-tune",
            "preprocessing": preprocessing,
            "training": {**record, "device": task.runtime.device.split(":")[0]},
            "start": run.sha256(beginning),
            "scores": {"val": outcome.scores},
        }
    )
    write_checkpoint(path, outcome.state, card)
    logger.info("%s: written", path)


def _own_start(folder: Path, index: int) -> Path:
    candidates = [folder / f"model_{index}{ending}" for ending in (SUFFIX, ".pt")]
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    raise UsageError(
        f"--start-from {folder}: no start for fine-tune {index}",
        expected=" or ".join(candidate.name for candidate in candidates),
        next_step="fetch the public ones: python main.py --download-models --model-location DIR",
    )


def _epoch_text(name: str, line: dict[str, Any], training: TrainingSettings, metric: str) -> str:
    epochs = training.epochs + training.lp_epochs
    text = f"{name}: epoch {line['epoch']} of {epochs}, loss {line['loss']:.4f}"
    if "val" in line:
        text += f", validation accuracy {100 * line['val']['accuracy']:.1f}%"
        text += f", {metric.replace('_', ' ')} {line['val'][metric]:.4f}" if metric != "accuracy" else ""
    return f"{text}, {line['images_per_second']:.0f} images/s"
