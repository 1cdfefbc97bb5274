"""Runs made: what is found out before anything is written, and the common start of their models."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from soups import cli
from soups.checkpoints import Card, write_checkpoint
from soups.data.augment import augmented_preprocessing
from soups.errors import UsageError
from soups.pipeline.recorded import RecordedSettings, record_run
from soups.pipeline.run import Run, check_recorded, existing_run, latest_run
from soups.pipeline.sets import open_all_images
from soups.pipeline.settings import CommandSettings, FinetuneSettings
from soups.records import locked, write_table
from soups.runtime import derived_seed, resolve
from soups.training.hyperparameters import spelled_out

if TYPE_CHECKING:
    import torch

    from soups.models.start import Start


def create_run(settings: FinetuneSettings, given: frozenset[str]) -> Run:
    """The run to train in: as recorded, or made now.

    Raises:
        UsageError: no data location for a new run, or settings that differ from those recorded.
        DataError: the data is not what it should be; nothing is recorded then.
    """
    name = settings.run.name or latest_run(settings.run) or name_of_data(settings)
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
    run = planned_run(settings, name)
    start, card = _build_start(run)
    kind = spelled_out(settings.training).augmentation
    open_all_images(run, augmented_preprocessing(card.preprocessing, kind), settings.cache, kind)
    write_table(run.folder / "samples.csv", run.samples)
    write_checkpoint(run.start, start.state_dict(), card)
    record_run(run.folder, run.recorded)


def planned_run(settings: CommandSettings, name: str) -> Run:
    """A run as it would be recorded, with its table; nothing is written.

    Raises:
        UsageError: no data location, or settings that contradict each other.
        DataError: the data is not what it should be.
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
    return Run(folder, models, recorded, table=samples)


def planned_or_recorded(given: cli.Given[Any]) -> tuple[Run, bool]:
    """The run that a command means, as it is or as it would be recorded, and whether it is there already.

    Raises:
        UsageError: settings that contradict each other or differ from what the run recorded.
        DataError: the data is not what it should be.
    """
    settings = given.settings
    name = settings.run.name or latest_run(settings.run) or name_of_data(settings)
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
    start = built_start(run)
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


def built_start(run: Run) -> "Start":
    """The common start of the pool, built anew.

    Raises:
        EnvironmentFailure: its weights cannot be fetched.
    """
    from soups.models.build import build_start

    # The start belongs to the run, not to one model: its seed is fixed.
    return build_start(run.recorded.model, run.space.names, seed=derived_seed(0))


def make_start(run: Run) -> None:
    """Write the common start where it is missing (another --model-location), once, whichever process comes first."""
    with locked(run.models, run.start.stem):
        if not run.start.exists():
            start, card = _build_start(run)
            write_checkpoint(run.start, start.state_dict(), card)
