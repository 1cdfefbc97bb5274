"""Validation images that no model of an ensemble was trained on."""

import logging
from collections.abc import Sequence
from os.path import realpath
from pathlib import Path

import numpy as np

from soups.data.samples import data_fingerprints, read_samples, set_rows
from soups.pipeline.run.images import image_paths
from soups.pipeline.run.run_settings import read_recorded
from soups.pipeline.score.context import RunContext

logger = logging.getLogger(__name__)


def heldout_rows(context: RunContext, paths: Sequence[Path]) -> np.ndarray | None:
    """Return which validation images may be used to fit weights of these models, (N,) bool.

    For a model of another run with the same split these are all; with another split, those that it was not trained on.

    Returns:
        None where there is none; a notice then says why.
    """
    run = context.run
    if "val" not in set(run.samples["split"]):
        logger.warning("run %s has no validation images: nothing is fitted on them", run.name)
        return None
    files = [realpath(path) for path in image_paths(set_rows(run.samples, "val"), run)]
    foreign = run.recorded.foreign
    pool = set() if foreign is None else {realpath(foreign.foreign_location), realpath(run.folder / "models")}
    heldout = np.ones(len(files), dtype=bool)
    for path in paths:
        if realpath(path.parent) in pool or run.has_split(run.card_of(path)):
            continue  # Trained on the same split; of checkpoints from other tools this is assumed.
        trained = _training_images(path, run.card_of(path).split)
        if trained is None:
            logger.warning("%s: its training images are unknown, so nothing is fitted on validation", path)
            return None
        own = np.array([file not in trained for file in files])
        if not own.all():
            message = "%s was trained on %d of the %d validation images of run %s, which are left out"
            logger.warning(message, path, int((~own).sum()), len(own), run.name)
        heldout &= own
    if not heldout.any():
        logger.warning("no validation image that none of the models was trained on: nothing is fitted")
        return None
    return heldout


def _training_images(path: Path, split: str) -> set[str] | None:
    """Return the files that a model of another run was trained on, from its table; None where it has no such table."""
    folder = path.parent.parent
    recorded, table = read_recorded(folder), folder / "samples.csv"
    if recorded is None or not table.exists():
        return None
    samples, root = read_samples(table), recorded.data.root
    if data_fingerprints(samples)[1] != split:  # The file was copied into the folder of this run.
        return None
    return {realpath(root / image) for image in samples.loc[samples["split"] == "train", "image"]}
