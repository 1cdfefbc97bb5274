"""One training step and one validation step of a fine-tune; writes nothing."""

import math
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from soups.core.errors import UserError
from soups.core.progress import format_duration
from soups.evaluation.logits import EvaluationSet, compute_logits
from soups.pipeline.run.run import Run
from soups.pipeline.train.one_model import prepare_finetune
from soups.pipeline.train.plan import Task
from soups.pipeline.train.pool_table import majority
from soups.runtime.process_group import SINGLE_PROCESS


def take_one_step(task: Task, run: Run, tasks: Sequence[Task]) -> str:
    """Validate the start on one batch, then train one batch; returns lines about both.

    Args:
        task: the fine-tune.
        run: a run with a start; `task` may be of another run with the same settings.
        tasks: all fine-tunes that are planned, for an estimate of their time.

    Raises:
        UserError: what failed; names the fine-tune.
    """
    try:
        finetune, _, _ = prepare_finetune(task, run, SINGLE_PROCESS, lambda line: None)
        labels, epoch_images = finetune.validation.labels, len(finetune.training.rows)
        finetune.validation = _first_batch(finetune.validation, finetune.eval_batch_size)
        rows = finetune.training.rows[_spread(epoch_images, task.training.batch_size)]
        finetune.training = replace(finetune.training, rows=rows, chances=None)
        finetune.settings = task.training.model_copy(update={"epochs": 1, "lp_epochs": 0, "patience": None})
        finetune.state_file = None
        lines: list[dict[str, Any]] = []
        finetune.on_epoch = lines.append
        finetune.classifier.to(finetune.runtime.device)
        started, images = time.monotonic(), finetune.validation.images
        values = (finetune.preprocessing, finetune.runtime, finetune.eval_batch_size)
        logits = compute_logits(finetune.classifier, images, *values)
        validation_seconds = time.monotonic() - started
        finetune.run()
    except UserError as error:
        error.problem = f"one batch of {task.name}: {error.problem.removeprefix(f'{task.name}: ')}"
        raise
    right = int(np.count_nonzero(logits.argmax(axis=1) == finetune.validation.labels))
    seconds = len(rows) / lines[0]["images_per_second"]
    epochs = sum(each.epochs for each in tasks)
    total = epochs * (epoch_images / len(rows) * seconds + len(labels) / len(images) * validation_seconds)
    label, share = majority(run.samples)
    text = [
        f"one batch of {task.name}, nothing is saved:",
        f"  training step    {len(rows)} images, {seconds:.2f} s, loss {lines[0]['loss']:.4f} "
        f"(a guess: {math.log(logits.shape[1]):.4f})",
        f"  validation step  {len(images)} images, {validation_seconds:.2f} s, the start has {right} right "
        f"({100 * right / len(images):.1f}%; always {label!r}: {100 * share:.1f}%)",
        f"  all {epochs} epochs    about {format_duration(total)} at this speed, one fine-tune after the other",
    ]
    return "\n".join(text)


def _first_batch(images: EvaluationSet, size: int) -> EvaluationSet:
    """Returns a batch of a set, spread over all of it."""
    rows = _spread(len(images.images), size)
    paths = tuple(images.paths[row] for row in rows)
    return EvaluationSet(images.name, images.images.subset(rows), images.labels[rows], images.groups[rows], paths)


def _spread(count: int, size: int) -> np.ndarray:
    return np.linspace(0, count - 1, min(count, size)).round().astype(np.int64)
