"""Creates runs: all checks before anything is written, then the samples table, the common start and the settings."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from soups.checkpoints.card import Card
from soups.checkpoints.checkpoint import write_checkpoint
from soups.cli.flags import ParsedSettings
from soups.core.errors import UsageError
from soups.core.notes import collect_notes
from soups.data.augment.augment import augmented_preprocessing
from soups.data.duplicates import check_leaks, describe_conflicts, find_duplicates, format_counts
from soups.data.layouts.locate import resolve_locations
from soups.data.samples import declared_space, make_samples
from soups.files.atomic import hold_lock, write_table
from soups.pipeline.run.data_notes import store_notes
from soups.pipeline.run.images import prepare_images
from soups.pipeline.run.open_run import check_settings
from soups.pipeline.run.refused_start import note_new_run
from soups.pipeline.run.run import Run, existing_run, remove_leftovers, require_run
from soups.pipeline.run.run_name import choose_run_name, default_run_name, numbered_names
from soups.pipeline.run.run_settings import RecordedSettings, record_run
from soups.pipeline.settings.commands import CommandSettings, FinetuneSettings
from soups.runtime.devices import derived_seed, resolve, select_device
from soups.training.hyperparameters import canonicalize
from soups.training.optimizers import require_optimizer

if TYPE_CHECKING:
    import pandas as pd

    from soups.models.start import Start

logger = logging.getLogger(__name__)

_MAX_IMAGES_COMPARED = 20_000


def create_run(settings: FinetuneSettings, given: frozenset[str]) -> Run:
    """Returns the run to train in: the existing one, or a new one.

    Raises:
        UsageError: a new run has no data location, or settings differ from the recorded ones.
        DataError: the data is invalid; nothing is recorded.
    """
    if settings.new:
        return _create_new(settings)
    name = choose_run_name(settings)
    _make_unless_exists(settings, name)
    run = require_run(settings.run, name)
    require_trainable(run)
    run = check_settings(run, settings, given)
    remove_leftovers(run)
    return run


def require_trainable(run: Run) -> None:
    """Raise an error if a run is a pool of checkpoints that other tools made.

    Raises:
        UsageError: it is.
    """
    if run.recorded.foreign is not None:
        raise UsageError(
            f"run {run.name!r} is a pool of checkpoints from other tools: it cannot be trained in",
            found=run.recorded.foreign.foreign_location,
            next_step="start a new run: python finetune.py --name NAME --data-location DIR",
        )


def _create_new(settings: FinetuneSettings) -> Run:
    """Create a run under the first free name of `digits`, `digits-2`, `digits-3`, …

    A lock is held until the run exists, so that two processes never take the same name.
    """
    first_name, folder = settings.run.name or default_run_name(settings), Path(settings.run.runs_folder)
    with hold_lock(folder, f"{first_name}.new"):
        names = numbered_names(first_name)
        name = next(each for each in names if not (folder / each).exists() and _make_unless_exists(settings, each))
    if name != first_name:
        logger.info("run %s: the name %s is taken", name, first_name)
    return require_run(settings.run, name)


def _make_unless_exists(settings: FinetuneSettings, name: str) -> bool:
    """Create a run unless it exists, safe against other processes; returns whether this call created it."""
    if existing_run(settings.run, name) is not None:
        return False
    with hold_lock(Path(settings.run.runs_folder), name):
        if existing_run(settings.run, name) is not None:
            return False
        _make_run(settings, name)
    return True


def _make_run(settings: FinetuneSettings, name: str) -> None:
    """Check everything, then write the run's table, start and settings, in this order.

    A run exists once its settings do: after an error the user can correct it and run the command again.
    """
    with collect_notes() as notes:
        run = plan_run(settings, name)
    select_device(settings.runtime.device)
    require_optimizer(settings.training)
    start = build_run_start(run)
    kind = canonicalize(settings.training).augmentation
    prepare_images(run, augmented_preprocessing(start.preprocessing, kind), settings.cache, kind)
    found = _find_run_duplicates(run, settings.near_duplicates)
    note_new_run(run)
    write_table(run.folder / "samples.csv", run.samples)
    if len(found):
        write_table(run.folder / "output" / "duplicates.csv", found)
        logger.warning("%s; listed in %s", format_counts(found), run.folder / "output" / "duplicates.csv")
    _write_start(run, start)
    store_notes(run.folder, notes)
    record_run(run.folder, run.recorded)


def _find_run_duplicates(run: Run, near: str) -> "pd.DataFrame":
    """Returns images that occur in two of the run's sets, and logs those with several labels.

    Args:
        run: a run with its table; all of its images are readable.
        near: `on`, `off` or `auto`, which means `on` up to `_MAX_IMAGES_COMPARED` images.

    Raises:
        DataError: training images are in the test set and the run does not allow it.
    """
    data, samples = run.recorded.data, run.samples
    if near == "auto":
        near = "on" if len(samples) <= _MAX_IMAGES_COMPARED else "off"
        if near == "off":
            message = "%s images: only equal files are searched for; add --near-duplicates on for nearly equal ones"
            logger.warning(message, f"{len(samples):,}")
    found = find_duplicates(samples, data.root, run.image_cache, near == "on")
    if not data.allow_duplicates:
        check_leaks(found)
    if conflicts := describe_conflicts(samples, data.root, run.image_cache):
        logger.warning(conflicts)
    return found


def plan_run(settings: CommandSettings, name: str) -> Run:
    """Returns a run as it would be recorded, with its table; writes nothing.

    Raises:
        UsageError: no data location, or settings that contradict each other.
        DataError: the data is invalid.
    """
    data = resolve_locations(settings.data)
    if data.data_location is None:
        raise UsageError(
            "--data-location is missing",
            expected="a folder with images in folders named after their classes",
            next_step=f"python finetune.py --name {name} --data-location DIR",
        )
    folder = Path(settings.run.runs_folder) / name
    models = Path(settings.run.model_location) if settings.run.model_location else folder / "models"
    samples, joint, runtime = make_samples(data), declared_space(data), resolve(settings.runtime)
    recorded = RecordedSettings(
        data=data,
        model=settings.model,
        metric=settings.evaluation.metric,
        precision=runtime.precision,
        threads=runtime.threads,
        factors=joint.factor_levels if joint is not None else (),
        index_prefix="_i" if name[-1].isdigit() else "",
    )
    return Run(folder, models, recorded, table=samples)


def open_or_plan_run(parsed: ParsedSettings[Any]) -> tuple[Run, bool]:
    """Returns the run of a command, recorded or planned, and whether it exists.

    Raises:
        UsageError: settings that contradict each other or differ from those recorded.
        DataError: the data is invalid.
    """
    settings, is_new = parsed.settings, getattr(parsed.settings, "new", False)
    name = choose_run_name(settings) if not is_new else settings.run.name or default_run_name(settings)
    run = None if is_new else existing_run(settings.run, name)
    if run is None:
        return plan_run(settings, name), False
    return check_settings(run, settings, parsed.names), True


def build_run_start(run: Run) -> "Start":
    """Builds the common start of the pool anew.

    Raises:
        EnvironmentFailure: its weights cannot be downloaded.
    """
    from soups.models.build import build_start

    # The start belongs to the run, not to one model: its seed is fixed.
    return build_start(run.recorded.model, run.space.names, seed=derived_seed(0))


def write_run_start(run: Run) -> None:
    """Write the common start if it is missing (another --model-location), once among all processes."""
    with hold_lock(run.models, run.start.stem):
        if not run.start.exists():
            _write_start(run, build_run_start(run))


def _write_start(run: Run, start: "Start") -> None:
    card = Card(
        kind="start",
        architecture=start.architecture,
        classes=run.space.names,
        factors=run.space.factor_levels,
        preprocessing=start.preprocessing,
        data=run.fingerprints[0],
        split=run.fingerprints[1],
    )
    write_checkpoint(run.start, start.classifier.state_dict(), card)
