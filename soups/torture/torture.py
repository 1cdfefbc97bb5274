"""What `scripts/torture.py` does: each torment that is asked for, and a report of it."""

import logging
import os
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from soups import cli
from soups.errors import EnvironmentFailure, PartialFailure, UsageError
from soups.torture.settings import TortureSettings

logger = logging.getLogger(__name__)

_MODELS = 4


def torture(given: cli.Given[TortureSettings], root: Path) -> None:
    """Do what was asked for and print what was found.

    Args:
        given: what to do.
        root: of the repository, where the entry scripts are.

    Raises:
        UsageError: the folder is not empty.
        EnvironmentFailure: the system has no `fork`.
        PartialFailure: something did not survive.
    """
    settings = given.settings
    if not hasattr(os, "fork"):
        raise EnvironmentFailure("torture needs a POSIX system: this one has no fork")
    with ExitStack() as stack:
        folder = settings.folder or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="soups-torture-")))
        if folder.exists() and any(folder.iterdir()):
            raise UsageError(f"--folder {folder}: is not empty", next_step="give a new one")
        problems = _all(settings, root, folder.resolve())
    if problems:
        raise PartialFailure(f"{len(problems)} promises were broken\n  " + "\n  ".join(problems))


def _all(settings: TortureSettings, root: Path, folder: Path) -> list[str]:
    """What was found, in words."""
    from soups.torture.commands import prepare
    from soups.torture.sweep import commands_of, contents, make_images

    begun = time.monotonic()
    prepare()
    waking = time.monotonic() - begun
    problems: list[str] = []
    if settings.kills:
        from soups.torture.kills import Tormentor, undisturbed

        make_images(folder / "images")
        commands = commands_of(folder / "images", _MODELS)
        durations, problems = undisturbed(root, folder / "undisturbed", commands)
        if problems:
            return problems
        wanted = contents(folder / "undisturbed" / "runs" / "toys")
        logger.info("undisturbed: %s", ", ".join(f"{seconds:.1f} s" for seconds in durations))
        tormentor = Tormentor(settings, root, commands, folder / "kills.jsonl")
        findings = tormentor.torment(folder, wanted, durations, waking)
        print(_text(findings.table()))
        problems += findings.problems
    return problems


def _text(rows: list[tuple[str, ...]]) -> str:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
