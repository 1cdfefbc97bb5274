"""How fast a model of a run predicts on this machine: measured once and kept."""

import os
import platform
import statistics
import time
from pathlib import Path

import numpy as np

from soups.data.samples import set_rows
from soups.files.atomic import append_record, fingerprint, read_records
from soups.pipeline.run.model_files import load_model
from soups.pipeline.score.context import RunContext
from soups.runtime.devices import limit_threads

_BATCH = 64
_MOST_BATCHES, _MOST_SECONDS = 10, 1.0
"""Timed batches after a first one that does not count; at least two, even where they take longer."""


def images_per_second(context: RunContext, path: Path) -> float:
    """Images a second from pixels in memory to logits through one model: the median over a few batches.

    What was measured is kept in the run's `logs/speed.jsonl` for each architecture, device, precision, number of
    threads and machine; delete the file to measure again.

    Args:
        context: the run; its validation images are predicted.
        path: a model of the run; all of one architecture are equally fast.
    """
    card = context.run.card_of(path)
    log = context.run.folder / "logs" / "speed.jsonl"
    runtime = context.runtime
    conditions = {
        "architecture": card.architecture.model_dump(mode="json"),
        "device": runtime.wanted_device,  # As asked for: finding out what `auto` means would load torch each time.
        "precision": runtime.precision,
        "threads": runtime.threads,
        "machine": fingerprint([platform.node(), platform.machine(), os.cpu_count()]),
    }
    for line in reversed(read_records(log)):
        if all(line.get(key) == value for key, value in conditions.items()):
            return float(line["images_per_second"])
    speed = _measure(context, path)
    append_record(log, {**conditions, "images_per_second": speed})
    return speed


def _measure(context: RunContext, path: Path) -> float:
    import torch

    from soups.evaluation.logits import batch_logits, inference_mode_at

    limit_threads(context.runtime.threads)
    classifier, card = load_model(context.run, path)
    classifier.to(context.runtime.device)
    rows = np.arange(min(_BATCH, len(set_rows(context.run.samples, "val"))))
    pixels = torch.from_numpy(context.set("val", card).images.take(rows))
    seconds: list[float] = []
    with inference_mode_at(classifier, context.runtime):
        batch_logits(classifier, pixels, card.preprocessing, context.runtime)
        while len(seconds) < 2 or (len(seconds) < _MOST_BATCHES and sum(seconds) < _MOST_SECONDS):
            begin = time.perf_counter()
            batch_logits(classifier, pixels, card.preprocessing, context.runtime)  # Its result is on the CPU: done.
            seconds.append(time.perf_counter() - begin)
    return round(len(rows) / statistics.median(seconds), 1)
