"""Runs of foreign checkpoints: finds the existing run, or records a new one from a folder and a data set."""

import logging
from collections.abc import Collection
from pathlib import Path

from soups.checkpoints.card import Architecture, Card
from soups.cli.flags import ParsedSettings
from soups.core.errors import DataError, UsageError, unknown_name
from soups.core.metrics import METRICS
from soups.core.preprocessing import Preprocessing
from soups.data.samples import label_space, target_space
from soups.files.atomic import hold_lock, write_table, write_text
from soups.pipeline.run.check_foreign import check_any_member, check_members
from soups.pipeline.run.create import plan_run
from soups.pipeline.run.foreign_pool import find_checkpoints
from soups.pipeline.run.run import Run, existing_run, known_runs, latest_run, require_run, slug
from soups.pipeline.run.run_settings import ForeignPool, read_recorded, record_run, recorded_otherwise
from soups.pipeline.settings.commands import MainSettings

logger = logging.getLogger(__name__)

_FLAGS = ("class_names", "ema")


def open_or_import_pool(parsed: ParsedSettings[MainSettings]) -> MainSettings:
    """Returns the settings with the run's name filled in; records a run of foreign checkpoints if it is new.

    A run of foreign checkpoints is meant if --model-location and --data-location are given and no run of that name
    exists, or, without a name, no run has its models in that folder.

    Raises:
        UsageError: settings differ from the recorded ones, or belong to foreign checkpoints only.
        DataError: a file of the folder is not a checkpoint of the network; nothing is recorded.
    """
    settings = parsed.settings
    name = _run_name(settings)
    if name is None:
        _refuse_foreign_flags(parsed.names, "only for checkpoints from other tools")
        return settings
    settings = settings.model_copy(update={"run": settings.run.model_copy(update={"name": name})})
    run = existing_run(settings.run, name)
    if run is None:
        with hold_lock(Path(settings.run.runs_folder), name):
            run = existing_run(settings.run, name) or _record_pool(settings, parsed.names, name)
    if run.recorded.foreign is None:
        _refuse_foreign_flags(parsed.names, f"the models of run {name!r} record it themselves")
    else:
        _check_recorded_flags(run, settings, parsed.names)
        _check_members(run, settings)
    return settings


def _check_members(run: Run, settings: MainSettings) -> None:
    """Check the files of the pool. An inspection reports misfits itself, so one fitting file is enough for it."""
    (check_any_member if settings.inspect else check_members)(run)


def _refuse_foreign_flags(given: Collection[str], why: str) -> None:
    for flag in _FLAGS:
        if flag in given:
            raise UsageError(
                f"--{flag.replace('_', '-')}: {why}",
                expected="with it, --model-location DIR and --data-location DIR of checkpoints from other tools",
                next_step="leave it out",
            )


def _run_name(settings: MainSettings) -> str | None:
    """Returns the name of the run, existing or not; None if `open_run` has to report an error."""
    run, location, data = settings.run, settings.run.model_location, settings.data.data_location
    name = run.name or latest_run(run)
    exists = name is not None and read_recorded(Path(run.runs_folder) / name) is not None
    if location is None or (data is None and exists):
        return name if exists else None
    if data is None:
        raise UsageError(
            "--data-location is missing",
            expected="labelled images for validation, in folders named after their classes",
            next_step="add --data-location DIR",
        )
    return run.name or _run_with_same_models(settings) or _new_run_name(settings)


def _run_with_same_models(settings: MainSettings) -> str | None:
    """Returns the name of the run whose models are in the folder, the latest run first; None if there is none."""
    latest, folder = latest_run(settings.run), Path(settings.run.runs_folder)
    for name in sorted(known_runs(settings.run), key=lambda name: (name != latest, name)):
        try:
            recorded = read_recorded(folder / name)
            is_own = recorded is not None and recorded.foreign is None
            if is_own and require_run(settings.run, name).finetunes():
                return name
        except DataError:  # The damage of another run is reported when that run is opened.
            continue
        if recorded is not None and recorded.foreign is not None:
            places = [recorded.foreign.foreign_location, *recorded.data.locations]
            requested = [settings.run.model_location or "", *settings.data.locations]
            if [Path(place).resolve() for place in places] == [Path(place).resolve() for place in requested]:
                return name
    return None


def _new_run_name(settings: MainSettings) -> str:
    """Returns the name of a new run: the folder's name."""
    place = Path(settings.run.model_location or "").resolve()
    name = slug(place.name, default="pool")
    if name in known_runs(settings.run):
        raise UsageError(
            f"run {name!r} already exists, with other models or data",
            expected=f"a name for the run of the checkpoints in {place}",
            next_step="add --name NAME",
        )
    return name


def _record_pool(settings: MainSettings, given: Collection[str], name: str) -> Run:
    """Check everything, then write the run's table and settings, in this order."""
    if settings.evaluation.metric not in METRICS:
        raise unknown_name("metric", settings.evaluation.metric, METRICS)
    location = settings.run.model_location or ""
    members = find_checkpoints(Path(location))
    run = plan_run(settings, name)
    data, occurring = run.recorded.data, target_space(run.recorded.data, run.recorded.joint_space)
    card = next((card for card in members.values() if card is not None), None)
    architecture, preprocessing = _find_network(settings, given, card)
    classes = _find_classes(settings, (occurring or label_space(run.samples)).names, card)
    foreign = ForeignPool(
        foreign_location=location, ema=settings.ema, architecture=architecture, preprocessing=preprocessing
    )
    own = {"data": data.model_copy(update={"class_order": classes}), "foreign": foreign}
    run = Run(run.folder, run.folder / "models", run.recorded.model_copy(update=own), table=run.samples)
    _check_members(run, settings)
    write_table(run.folder / "samples.csv", run.samples)
    record_run(run.folder, run.recorded)
    write_text(run.folder.parent / "latest", name + "\n")
    _log_summary(run, len(members))
    return run


def _find_network(
    settings: MainSettings, given: Collection[str], card: Card | None
) -> tuple[Architecture, Preprocessing]:
    """Returns architecture and preprocessing of the checkpoints: from --model, else from a card among them."""
    if card is not None and "model" not in given:
        return card.architecture, card.preprocessing
    from soups.models.build import describe

    architecture, preprocessing = describe(settings.model)
    name, is_chosen = settings.model.model, settings.model.pretrained is not None
    if architecture.quick_gelu and not is_chosen and "quickgelu" not in name.lower():
        text = "assuming fine-tunes of OpenAI's %s (with quick-GELU); for other initial weights add --pretrained TAG"
        logger.info(text, name)
    return architecture, preprocessing


def _find_classes(settings: MainSettings, occurring: tuple[str, ...], card: Card | None) -> tuple[str, ...]:
    """Returns the classes in the order of the logits: from the flags, else from a card, else from the data."""
    requested = settings.class_names or settings.data.class_order
    if settings.class_names and settings.data.class_order not in (None, settings.class_names):
        raise UsageError("--class-names and --class-order differ", expected="equal values, or one of them")
    if requested is not None:
        if sorted(requested) != sorted(occurring):
            raise UsageError(
                "--class-names does not fit the data",
                expected=f"each of {', '.join(occurring)} once, in the order of the logits",
                found=", ".join(requested),
            )
        return tuple(requested)
    if card is not None and set(card.classes) == set(occurring):
        return card.classes
    numbers = [str(number) for number in range(len(occurring))]
    if set(occurring) == set(numbers) and tuple(numbers) != occurring:
        text = "classes 0 to %d: assuming numeric order of the logits; models trained in string order (0, 1, 10, 11, "
        text += "2, as by torchvision's ImageFolder) need --class-names"
        logger.warning(text, len(numbers) - 1)
        return tuple(numbers)
    return occurring


def _log_summary(run: Run, members: int) -> None:
    data, foreign = run.recorded.data, run.recorded.foreign
    assert foreign is not None
    text = "run %s: %d checkpoints of %s, which are only read; soups are written to %s"
    logger.info(text, run.name, members, foreign.foreign_location, run.models)
    validate = int((run.samples["split"] == "val").sum())
    own = data.split_column is not None or any((Path(location) / "val").is_dir() for location in data.locations)
    if validate and not own:
        text = "%d images of train validate (--val-ratio %g): the scores flatter models that were trained on them. "
        text += "Put images that no model has seen into val/; --val-ratio None uses all of train"
        logger.warning(text, validate, data.val_ratio)


def _check_recorded_flags(run: Run, settings: MainSettings, given: Collection[str]) -> None:
    """Raise an error if --ema or --class-names differ from the recorded values; `check_recorded` compares the rest."""
    assert run.recorded.foreign is not None
    recorded = {"ema": run.recorded.foreign.ema, "class_names": run.recorded.data.class_order}
    for flag in _FLAGS:
        if flag in given and getattr(settings, flag) != recorded[flag]:
            raise recorded_otherwise(run.name, flag, recorded[flag], getattr(settings, flag))
