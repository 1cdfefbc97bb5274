"""Runs made: what is found out before anything is written, and the common start of their models."""

import logging
import re
from itertools import chain, count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from soups.checkpoints.checkpoint import Card, write_checkpoint
from soups.cli import flags as cli
from soups.core.errors import UsageError
from soups.data.augment.augment import augmented_preprocessing
from soups.data.duplicates import check_leaks, find_duplicates, format_counts
from soups.files.atomic import hold_lock, write_table
from soups.pipeline.run.images import prepare_images
from soups.pipeline.run.run import Run, check_recorded, existing_run, latest_run, remove_leftovers
from soups.pipeline.run.run_settings import RecordedSettings, record_run
from soups.pipeline.settings.commands import CommandSettings, FinetuneSettings
from soups.runtime.devices import derived_seed, resolve
from soups.training.hyperparameters import canonicalize
from soups.training.optimizers import require_optimizer

if TYPE_CHECKING:
    import pandas as pd
    import torch

    from soups.models.start import Start

logger = logging.getLogger(__name__)

_MOST_LOOKED_AT = 20_000


def create_run(settings: FinetuneSettings, given: frozenset[str]) -> Run:
    """The run to train in: as recorded, or made now.

    Raises:
        UsageError: no data location for a new run, or settings that differ from those recorded.
        DataError: the data is not what it should be; nothing is recorded then.
    """
    if settings.new:
        return _create_new(settings)
    name = _name_of_run(settings)
    _make_where_missing(settings, name)
    run = existing_run(settings.run, name)
    assert run is not None
    if run.recorded.foreign is not None:
        raise UsageError(
            f"run {name!r} is a pool of checkpoints made elsewhere: nothing is trained in it",
            found=run.recorded.foreign.foreign_location,
            next_step="start a run of its own with another --name and --data-location",
        )
    check_recorded(run, settings, given)
    remove_leftovers(run)
    return run


def is_new(settings: FinetuneSettings) -> bool:
    """Whether `create_run` would make a run."""
    return settings.new or existing_run(settings.run, _name_of_run(settings)) is None


def _name_of_run(settings: CommandSettings) -> str:
    return settings.run.name or latest_run(settings.run) or name_of_data(settings)


def _create_new(settings: FinetuneSettings) -> Run:
    """A run that is made now, under the first name of `digits`, `digits-2`, `digits-3`, … that is free.

    Whoever looks for a free name holds a lock until the run is there, so two processes never find the same.
    """
    wanted, folder = settings.run.name or name_of_data(settings), Path(settings.run.runs_folder)
    with hold_lock(folder, f"{wanted}.new"):
        for name in chain([wanted], (f"{wanted}-{serial}" for serial in count(2))):
            if not (folder / name).exists() and _make_where_missing(settings, name):
                break
    if name != wanted:
        logger.info("run %s: %s is taken", name, wanted)
    run = existing_run(settings.run, name)
    assert run is not None
    return run


def _make_where_missing(settings: FinetuneSettings, name: str) -> bool:
    """Make a run unless it is there, even if others are about to; whether it was made here."""
    if existing_run(settings.run, name) is not None:
        return False
    with hold_lock(Path(settings.run.runs_folder), name):
        if existing_run(settings.run, name) is not None:
            return False
        _make_run(settings, name)
    return True


def _make_run(settings: FinetuneSettings, name: str) -> None:
    """Find out that everything is in order, then write the run's table, start and settings, in this order.

    A run exists once its settings are there, so a mistake can be mended by running the command again.
    """
    run = planned_run(settings, name)
    require_optimizer(settings.training)
    start, card = _build_start(run)
    kind = canonicalize(settings.training).augmentation
    prepare_images(run, augmented_preprocessing(card.preprocessing, kind), settings.cache, kind)
    found = find_run_duplicates(run, settings.near_duplicates)
    write_table(run.folder / "samples.csv", run.samples)
    if len(found):
        write_table(run.folder / "output" / "duplicates.csv", found)
        logger.warning("%s; listed in %s", format_counts(found), run.folder / "output" / "duplicates.csv")
    write_checkpoint(run.start, start.state_dict(), card)
    record_run(run.folder, run.recorded)


def find_run_duplicates(run: Run, near: str) -> "pd.DataFrame":
    """Images that are in two of the run's sets.

    Args:
        run: with its table; all of its images can be read.
        near: `on`, `off` or `auto`: as `on` up to `_MOST_LOOKED_AT` images.

    Raises:
        DataError: training images in the test set, where the run does not allow it.
    """
    data, samples = run.recorded.data, run.samples
    many = len(samples) > _MOST_LOOKED_AT
    if near == "auto" and many:
        message = "%s images are many: only equal files are looked for in two sets; --near-duplicates on looks closer"
        logger.warning(message, f"{len(samples):,}")
    found = find_duplicates(samples, data.root, run.image_cache, near == "on" or (near == "auto" and not many))
    if not data.allow_duplicates:
        check_leaks(found)
    return found


def planned_run(settings: CommandSettings, name: str) -> Run:
    """A run as it would be recorded, with its table; nothing is written.

    Raises:
        UsageError: no data location, or settings that contradict each other.
        DataError: the data is not what it should be.
    """
    from soups.data.layouts.locate import resolve_locations
    from soups.data.samples import declared_space, make_samples

    data = resolve_locations(settings.data)
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
    return Run(folder, models, recorded, table=samples)


def planned_or_recorded(given: cli.ParsedSettings[Any]) -> tuple[Run, bool]:
    """The run that a command means, as it is or as it would be recorded, and whether it is there already.

    Raises:
        UsageError: settings that contradict each other or differ from what the run recorded.
        DataError: the data is not what it should be.
    """
    settings = given.settings
    name = _name_of_run(settings)
    run = existing_run(settings.run, name)
    if run is None:
        return planned_run(settings, name), False
    check_recorded(run, settings, given.names)
    return run, True


def name_of_data(settings: CommandSettings) -> str:
    """What a run is called by default: as the data's folder, or its folders."""
    names = [Path(location).resolve().name for location in settings.data.locations]
    return re.sub(r"[^A-Za-z0-9._-]+", "-", "-".join(names)).strip("-._") or "run"


def _build_start(run: Run) -> "tuple[torch.nn.Module, Card]":
    """The common start of the pool, with its card."""
    start = build_run_start(run)
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


def build_run_start(run: Run) -> "Start":
    """The common start of the pool, built anew.

    Raises:
        EnvironmentFailure: its weights cannot be fetched.
    """
    from soups.models.build import build_start

    # The start belongs to the run, not to one model: its seed is fixed.
    return build_start(run.recorded.model, run.space.names, seed=derived_seed(0))


def write_run_start(run: Run) -> None:
    """Write the common start where it is missing (another --model-location), once, whichever process comes first."""
    with hold_lock(run.models, run.start.stem):
        if not run.start.exists():
            start, card = _build_start(run)
            write_checkpoint(run.start, start.state_dict(), card)
