"""What `finetune.py` does: the run and its common start, then each fine-tune that is not finished."""

import logging
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from soups import cli
from soups.checkpoints import SUFFIX, Card, read_card, write_checkpoint
from soups.data.augment import augmented_preprocessing
from soups.data.samples import set_rows
from soups.errors import PartialFailure, UsageError, UserError, unknown_name
from soups.launch import run_all
from soups.metrics import METRICS
from soups.pipeline.plan import Task, parse_indices, plan, training_record
from soups.pipeline.recorded import RecordedSettings, record_run
from soups.pipeline.run import Run, check_recorded, existing_run, latest_run, say_if_flattering
from soups.pipeline.sets import evaluation_set, open_all_images, training_set
from soups.pipeline.settings import FinetuneSettings
from soups.records import append_record, fingerprint, locked, write_table, write_text
from soups.runtime import derived_seed, resolve
from soups.training.settings import TrainingSettings

if TYPE_CHECKING:
    import torch

logger = logging.getLogger(__name__)


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
    run = create_run(settings, given.names)
    say_if_flattering(run)
    runtime = run.runtime(settings.runtime)
    write_text(Path(settings.run.runs_folder) / "latest", run.name + "\n")
    if not run.start.exists():
        make_start(run)
    tasks = plan(run, settings, runtime, indices)
    if not tasks:
        return
    train_all(tasks, runtime.jobs)


def train_all(tasks: Sequence[Task], jobs: int) -> None:
    """Train what is asked for, several side by side.

    Raises:
        PartialFailure: some of several failed; the others are kept.
    """
    failures = []
    for task, result in run_all(train_one, tasks, jobs):
        name = f"{task.run_name}{task.index}"
        if isinstance(result, UserError):
            failures.append(f"{name}: {result}")
            error: Exception = result
        elif isinstance(result, Exception):
            logger.error("%s failed", name, exc_info=result)
            failures.append(f"{name}: {type(result).__name__}: {result}")
            error = result
    if failures and len(tasks) == 1:
        raise error
    if failures:
        raise PartialFailure(
            f"{len(failures)} of {len(tasks)} fine-tunes failed; the others are kept\n  " + "\n  ".join(failures),
            next_step="mend the cause and run the same command again: it trains only what is missing",
        )


def create_run(settings: FinetuneSettings, given: frozenset[str]) -> Run:
    """The run to train in: as recorded, or made now.

    Raises:
        UsageError: no data location for a new run, or settings that differ from those recorded.
        DataError: the data is not what it should be; nothing is recorded then.
    """
    name = settings.run.name or latest_run(settings.run) or _name_of_data(settings)
    if existing_run(settings.run, name) is None:
        with locked(Path(settings.run.runs_folder), name):
            if existing_run(settings.run, name) is None:
                _make_run(settings, name)
    run = existing_run(settings.run, name)
    assert run is not None
    if run.recorded.foreign is not None:
        raise UsageError(
            f"run {name!r} is a pool of checkpoints made elsewhere: nothing is trained in it",
            found=run.recorded.foreign.foreign_location,
            next_step="start a run of its own with another --name and --data-location",
        )
    check_recorded(run, settings, given)
    return run


def _make_run(settings: FinetuneSettings, name: str) -> None:
    """Find out that everything is in order, then write the run's table, start and settings, in this order.

    A run exists once its settings are there, so a mistake can be mended by running the command again.
    """
    from soups.data.places import settled
    from soups.data.samples import declared_space, make_samples

    data = settled(settings.data)
    if data.data_location is None:
        raise UsageError(
            "--data-location is missing",
            expected="a folder with images in folders named after their classes",
            next_step=f"python finetune.py --name {name} --data-location DIR",
        )
    folder = Path(settings.run.runs_folder) / name
    models = Path(settings.run.model_location) if settings.run.model_location else folder / "models"
    samples = make_samples(data)
    joint = declared_space(data)
    runtime = resolve(settings.runtime)
    recorded = RecordedSettings(
        data=data,
        model=settings.model,
        metric=settings.evaluation.metric,
        precision=runtime.precision,
        threads=runtime.threads,
        factors=joint.described if joint is not None else (),
    )
    run = Run(folder, models, recorded, table=samples)
    start, card = _build_start(run)
    open_all_images(run, card.preprocessing, settings.cache)
    write_table(folder / "samples.csv", samples)
    write_checkpoint(run.start, start.state_dict(), card)
    record_run(folder, recorded)


def _name_of_data(settings: FinetuneSettings) -> str:
    location = settings.data.data_location
    return re.sub(r"[^A-Za-z0-9._-]+", "-", Path(location).resolve().name).strip("-._") or "run" if location else "run"


def _build_start(run: Run) -> "tuple[torch.nn.Module, Card]":
    """The common start of the pool, with its card."""
    from soups.models.build import build_start

    # The start belongs to the run, not to one model: its seed is fixed.
    start = build_start(run.recorded.model, run.space.names, seed=derived_seed(0))
    card = Card(
        kind="start",
        architecture=start.architecture,
        classes=run.space.names,
        factors=run.space.described,
        preprocessing=start.preprocessing,
        data=run.fingerprints[0],
        split=run.fingerprints[1],
    )
    return start.classifier, card


def make_start(run: Run) -> None:
    """Write the common start where it is missing (another --model-location), once, whichever process comes first."""
    with locked(run.models, run.start.stem):
        if not run.start.exists():
            start, card = _build_start(run)
            write_checkpoint(run.start, start.state_dict(), card)


def train_one(task: Task) -> Path:
    """Fine-tune one model and write it; runs in a process of its own where there are several jobs.

    Returns:
        The checkpoint's path.
    """
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
    log, settings_key = run.folder / "logs" / "training" / f"{name}.jsonl", fingerprint(record)
    tracker = open_tracker(settings.wandb, run.name, name, record)

    def on_epoch(line: dict[str, Any]) -> None:
        append_record(log, {"settings": settings_key, **line})
        tracker.log(line)
        logger.info("%s", _epoch_text(name, line, task.training))

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


def _epoch_text(name: str, line: dict[str, Any], training: TrainingSettings) -> str:
    epochs = training.epochs + training.lp_epochs
    text = f"{name}: epoch {line['epoch']} of {epochs}, loss {line['loss']:.4f}"
    if "val" in line:
        text += f", validation accuracy {100 * line['val']['accuracy']:.1f}%"
    return f"{text}, {line['images_per_second']:.0f} images/s"
