"""Costs of training a network of a run: size, arithmetic, time and memory, measured once and logged."""

import os
import platform
import statistics
from dataclasses import replace
from typing import Any

from soups.core.sampling import evenly_spaced
from soups.data.augment.augment import augmented_preprocessing
from soups.data.samples import set_rows
from soups.files.atomic import fingerprint
from soups.files.jsonl import append_record, read_records
from soups.pipeline.run.images import evaluation_set, training_set
from soups.pipeline.run.run import Run
from soups.pipeline.train.plan import Task
from soups.runtime.devices import peak_memory
from soups.runtime.workers import WorkerPool, wait_for_result

_STEPS, _ROUNDS = 2, 3
"""Training steps per round, and rounds; the first round warms up and is not counted."""
_SHORT_TRAINING = {"epochs": _ROUNDS, "lp_epochs": 0, "patience": None, "validate_every": 0}
_COSTS = ("parameters", "trainable", "multiply_adds", "seconds_per_epoch", "peak_memory")
_WITHOUT_EFFECT = {"epochs", "lp_epochs", "random_seed", "lr", "wd", "warmup", "patience", "validate_every", "hparams"}
"""Training settings that change neither time nor memory of a step."""


def measure_costs(task: Task) -> dict[str, Any]:
    """Returns size and costs of training a fine-tune's network.

    Measurements are logged in the run's `logs/costs.jsonl` per training settings, device, precision, number of
    threads and machine; delete the file to measure again.

    Args:
        task: a fine-tune of a run that has a start.

    Returns:
        `parameters`, `trainable`, `multiply_adds` (of one image), `seconds_per_epoch`, `peak_memory` (bytes, or
        None if the system does not report it).

    Raises:
        UserError, or any error of the network while it is trained.
    """
    run = task.open_run()
    log, conditions = run.folder / "logs" / "costs.jsonl", _measurement_conditions(task, run)
    found: Any = next((line for line in reversed(read_records(log)) if line.get("conditions") == conditions), None)
    if found is None:
        # A new process, whose memory does not include earlier work of this one.
        with WorkerPool(1) as workers:
            found = wait_for_result(workers.submit(_measure_training, task), "use a smaller --batch-size")
        if isinstance(found, Exception):
            raise found
        append_record(log, {"conditions": conditions, **found})
    return {key: found[key] for key in _COSTS}


def _measurement_conditions(task: Task, run: Run) -> dict[str, Any]:
    return {
        "start": run.sha256(run.start),
        "training": fingerprint(task.training.model_dump(mode="json", exclude=_WITHOUT_EFFECT)),
        "images": len(set_rows(run.samples, "train")),
        "device": task.runtime.requested_device,  # The requested name: resolving `auto` would load torch each time.
        "precision": task.runtime.precision,
        "threads": task.runtime.threads,
        "workers": task.runtime.workers,
        "machine": fingerprint([platform.node(), platform.machine(), os.cpu_count()]),
    }


def _measure_training(task: Task) -> dict[str, Any]:
    """Train a few steps as the fine-tune would and measure them; runs in its own process."""
    from soups.models.flops import count_multiply_adds
    from soups.models.load import load_classifier
    from soups.training.finetune import Finetune

    run = task.open_run()
    classifier, card = load_classifier(run.start, classes=run.space.names)
    preprocessing = augmented_preprocessing(card.preprocessing, task.training.augmentation)
    found: dict[str, Any] = {"parameters": sum(each.numel() for each in classifier.parameters())}
    found["multiply_adds"] = count_multiply_adds(classifier, preprocessing.size)
    whole = training_set(run, task.training, preprocessing, task.settings.cache)
    measured = evenly_spaced(len(whole.rows), _STEPS * task.training.batch_size)  # The first rows are all of one class.
    rows = set_rows(run.samples, "val").iloc[: task.training.batch_size]
    speeds: list[float] = []
    Finetune(
        classifier=classifier,
        training=replace(whole, rows=whole.rows[measured], chances=None),
        validation=evaluation_set("val", rows, run, preprocessing, task.settings.cache),
        settings=task.training.model_copy(update=_SHORT_TRAINING),
        index=task.index,
        preprocessing=preprocessing,
        metric=task.settings.evaluation.metric,
        runtime=task.runtime.model_copy(update={"requested_jobs": 2}),  # More than one job disables the progress bar.
        eval_batch_size=task.training.batch_size,
        on_epoch=lambda line: speeds.append(line["images_per_second"]),
    ).run()
    found["trainable"] = sum(each.numel() for each in classifier.parameters() if each.requires_grad)
    found["seconds_per_epoch"] = round(len(whole.rows) / statistics.median(speeds[1:]), 3)
    found["peak_memory"] = peak_memory(task.runtime.device)
    return found
