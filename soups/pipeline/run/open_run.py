"""Opens the run of a command, and compares what the user gave with what the run recorded."""

from collections.abc import Collection
from dataclasses import replace

from soups.core.errors import UsageError
from soups.pipeline.run.moved_images import follow_images, record_move
from soups.pipeline.run.run import Run, latest_run, require_run
from soups.pipeline.run.run_settings import check_recorded
from soups.pipeline.settings.commands import CommandSettings


def open_run(settings: CommandSettings, given: Collection[str], may_differ: Collection[str] = ()) -> Run:
    """Returns the run of a command.

    Args:
        settings: settings with the run's name; by default the run last trained.
        given: names of the settings that the user gave; their values must equal those recorded.
        may_differ: settings with another meaning in this command, which are not compared.

    Raises:
        UsageError: the run does not exist, or a given setting differs from the recorded one.
    """
    name = settings.run.name or latest_run(settings.run)
    folder = settings.run.runs_folder
    if name is None:
        raise UsageError(
            f"{folder}: no run yet",
            expected="a run created by finetune.py",
            next_step="train first: python finetune.py --data-location DIR",
        )
    return check_settings(require_run(settings.run, name), settings, set(given) - set(may_differ))


def check_settings(run: Run, settings: CommandSettings, given: Collection[str]) -> Run:
    """Returns a run whose recorded settings equal those that the user gave; its images may have been moved.

    Raises:
        UsageError: a given setting differs from the recorded one.
        DataError: the given data location does not exist.
    """
    recorded = follow_images(run.folder, run.recorded, settings.data, given)
    check_recorded(recorded, run.name, settings, given)
    # A dry run changes nothing.
    if recorded is not run.recorded and getattr(settings, "dry_run", None) is None:
        record_move(run.folder, run.recorded, recorded)
    return replace(run, recorded=recorded)
