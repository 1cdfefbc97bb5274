"""Prediction speed of a model of a run on this machine, measured once and logged."""

import os
import platform
import statistics
import time
from pathlib import Path

import numpy as np

from soups.data.samples import set_rows
from soups.files.atomic import fingerprint
from soups.files.jsonl import append_record, read_records
from soups.pipeline.run.model_files import load_model
from soups.pipeline.score.context import RunContext
from soups.runtime.devices import limit_threads

_BATCH = 64
_MAX_BATCHES, _MAX_SECONDS = 10, 1.0
"""Limits of the timed batches after one warm-up batch; at least two batches are timed, even if they take longer."""


def images_per_second(context: RunContext, path: Path) -> float:
    """Returns images per second from pixels in memory to logits: the median over a few batches.

    Measurements are logged in the run's `logs/speed.jsonl` per architecture, device, precision, number of threads
    and machine; delete the file to measure again.

    Args:
        context: the run; its validation images are predicted.
        path: a model of the run; all models of one architecture are equally fast.
    """
    card = context.run.card_of(path)
    log = context.run.folder / "logs" / "speed.jsonl"
    runtime = context.runtime
    conditions = {
        "architecture": card.architecture.model_dump(mode="json"),
        "device": runtime.requested_device,  # The requested name: resolving `auto` would load torch each time.
        "precision": runtime.precision,
        "threads": runtime.threads,
        "machine": fingerprint([platform.node(), platform.machine(), os.cpu_count()]),
    }
    for line in reversed(read_records(log)):
        if all(line.get(key) == value for key, value in conditions.items()):
            return float(line["images_per_second"])
    speed = _measure_speed(context, path)
    append_record(log, {**conditions, "images_per_second": speed})
    return speed


def _measure_speed(context: RunContext, path: Path) -> float:
    import torch

    from soups.evaluation.logits import batch_logits, inference_mode_at

    limit_threads(context.runtime.threads)
    classifier, card = load_model(context.run, path)
    classifier.to(context.runtime.device)
    rows = np.arange(min(_BATCH, len(set_rows(context.run.samples, "val"))))
    pixels = torch.from_numpy(context.open_set("val", card).images.take(rows))
    seconds: list[float] = []
    with inference_mode_at(classifier, context.runtime):
        batch_logits(classifier, pixels, card.preprocessing, context.runtime)
        while len(seconds) < 2 or (len(seconds) < _MAX_BATCHES and sum(seconds) < _MAX_SECONDS):
            begin = time.perf_counter()
            batch_logits(classifier, pixels, card.preprocessing, context.runtime)  # Its result is on the CPU: complete.
            seconds.append(time.perf_counter() - begin)
    return round(len(rows) / statistics.median(seconds), 1)
