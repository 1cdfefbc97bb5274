"""Repeat a run's whole experiment over other splits and pool what soups and votes gained: `--help` tells how."""

import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from soups.cli import flags as cli
from soups.pipeline.settings.tools import StudySettings


def main(argv: Sequence[str] | None = None) -> int:
    """Parse, do the study, and return the exit code."""
    return cli.run(StudySettings, command, argv)


def command(given: cli.ParsedSettings[StudySettings]) -> None:
    """Imported late, so that `--help` is quick."""
    from soups.pipeline.compare.study import study

    study(given)


if __name__ == "__main__":
    raise SystemExit(main())
