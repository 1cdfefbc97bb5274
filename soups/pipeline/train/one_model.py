"""One fine-tune of a run: its start, its images, its state, its log and its checkpoint."""

import logging
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from soups.checkpoints.card import Card, read_card
from soups.checkpoints.checkpoint import SUFFIX, write_checkpoint
from soups.core.errors import TrainingDiverged
from soups.core.signals import defer_interruption
from soups.data.augment.augment import augmented_preprocessing
from soups.data.samples import set_rows
from soups.files.atomic import fingerprint, hold_lock
from soups.pipeline.run.images import evaluation_set, training_set
from soups.pipeline.run.recorded_models import record_models
from soups.pipeline.run.run import Run
from soups.pipeline.train.epoch_log import EpochLog, format_epoch
from soups.pipeline.train.plan import Task, requested_settings
from soups.pipeline.train.pool_table import majority
from soups.runtime.devices import Runtime, select_device
from soups.runtime.process_group import SINGLE_PROCESS, ProcessGroup
from soups.runtime.workers import worker_number
from soups.training.search_space import start_file
from soups.training.state import StateFile

if TYPE_CHECKING:
    from soups.training.finetune import Finetune, FinetuneResult

logger = logging.getLogger(__name__)

OnEpoch = Callable[[dict[str, Any]], None]


def train_one(task: Task, watch: OnEpoch | None = None, group: ProcessGroup = SINGLE_PROCESS) -> Path:
    """Fine-tune one model and write it; runs in its own process and on its own device if there are several jobs.

    Args:
        task: the fine-tune.
        watch: called with each line of the model's log after it is written; an exception from it ends the training.
        group: processes that train it together; this process is rank 0, the others call `train_as_follower`.

    Returns:
        The checkpoint's path.

    Raises:
        TrainingDiverged: the loss exploded or is not finite; names the fine-tune and its learning rate.
    """
    task = replace(task, runtime=task.runtime.for_worker(worker_number()))
    if task.quiet and worker_number() is not None:
        logging.getLogger("soups").setLevel(logging.WARNING)
    run = task.open_run()
    path = run.models / f"{task.name}_epochs{task.training.epochs}{SUFFIX}"
    with hold_lock(run.models, task.name, wait=task.waits):
        finished = read_card(path) if path != task.replaces and path.exists() else None
        if finished is not None and requested_settings(finished) == task.record:
            logger.info("%s: finished by another process in the meantime", path)
            group.broadcast(False)
            return path
        group.broadcast(True)
        try:
            _train_and_write(task, run, path, watch, group)
        except TrainingDiverged as error:
            error.problem = f"{task.name}: {error.problem}"
            raise
        if task.replaces is not None and task.replaces != path:
            task.replaces.unlink(missing_ok=True)
    return path


def train_as_follower(task: Task, group: ProcessGroup) -> None:
    """Take part in a fine-tune of rank 0; returns when it is trained or already finished."""
    if group.broadcast(None):
        finetune, _, _ = prepare_finetune(task, task.open_run(), group, lambda line: None)
        finetune.run()


def _train_and_write(task: Task, run: Run, path: Path, watch: OnEpoch | None, group: ProcessGroup) -> None:
    from soups.pipeline.train.trackers import open_tracker

    tracker = open_tracker(task.settings.wandb, run.name, task.name, task.record)
    log = EpochLog(run.training_log(task.index), fingerprint(task.record))

    def on_epoch(line: dict[str, Any]) -> None:
        log.append(line)
        tracker.log(line)
        logger.info("%s", format_epoch(task, line))
        if task.is_first and line["epoch"] == 1:
            _warn_at_chance_level(task, run, line)
        if watch is not None:
            watch(line)

    with closing(tracker):
        finetune, start, initial_weights = prepare_finetune(task, run, group, on_epoch)
        select_device(task.runtime.requested_device)  # What is refused has not begun.
        with log.begun():
            result = finetune.run()
    card = start.model_copy(
        update={
            "kind": "fine-tune",
            "preprocessing": finetune.preprocessing,
            "training": {**task.record, **_course_fields(task.runtime, result, group)},
            "start": run.sha256(initial_weights),
            "scores": {"val": result.scores},
        }
    )
    with defer_interruption() as interruption:  # Finishing now is quicker than resuming.
        write_checkpoint(path, result.state, card)
        record_models(run, [card])
        run.state_path(task.index).unlink(missing_ok=True)  # The finished model makes it useless.
        logger.info("%s: written", path)
        if interruption.number is not None:
            raise interruption.exception()


def _warn_at_chance_level(task: Task, run: Run, line: dict[str, Any]) -> None:
    """Warn if the first epoch was validated and has not passed the most frequent class."""
    label, share = majority(run.samples)
    if line.get("val", {}).get("accuracy", 1.0) <= share:
        logger.warning(
            "%s: after epoch 1 its validation accuracy is not above that of always answering %r (%.1f%%): if that goes "
            "on, check --model, --pretrained, the class names, and whether --lr is too low or too high",
            *(task.name, label, 100 * share),
        )


def prepare_finetune(task: Task, run: Run, group: ProcessGroup, on_epoch: OnEpoch) -> "tuple[Finetune, Card, Path]":
    """Returns a fine-tune that is ready to run, the card of the run's start, and the file of the initial weights."""
    from soups.models.load import load_classifier
    from soups.training.finetune import Finetune

    settings, initial_weights = task.settings, run.start
    classifier, start = load_classifier(run.start, classes=run.space.names)
    if task.training.start_from is not None:
        location = Path(task.training.start_from)
        initial_weights = location if location.is_file() else start_file(location, task.index)
        classifier, _ = load_classifier(
            initial_weights, architecture=start.architecture, classes=run.space.names, preprocessing=start.preprocessing
        )
    preprocessing = augmented_preprocessing(start.preprocessing, task.training.augmentation)
    depends_on = [fingerprint(task.record), run.sha256(initial_weights), *run.fingerprints]
    depends_on += ["sharded"] if group.sharded else []
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
        state_file=StateFile(run.state_path(task.index), fingerprint(depends_on), settings.save_minutes),
        group=group,
    )
    return finetune, start, initial_weights


def _course_fields(runtime: Runtime, result: "FinetuneResult", group: ProcessGroup) -> dict[str, Any]:
    """Returns the card fields of a training that describe its course, not its settings."""
    device = runtime.device.split(":")[0]
    fields = {
        "device": device,
        "deterministic": runtime.deterministic and device != "cpu",
        "micro_batch_size": result.micro_batch_size,
        "processes": group.size if group.size > 1 else None,
        "sharded": group.sharded,
    }
    return {key: value for key, value in fields.items() if value}
