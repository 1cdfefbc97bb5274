"""Try out what the toolkit promises of kills, full disks and many writers: `--help` tells how."""

import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from soups.cli import outcome
from soups.cli.flags import ParsedSettings
from tools.stress.settings import TortureSettings


def main(argv: Sequence[str] | None = None) -> int:
    """Parse, torture, and return the exit code."""
    return outcome.run(TortureSettings, command, argv)


def command(given: ParsedSettings[TortureSettings]) -> None:
    """Imported late, so that `--help` is quick."""
    from tools.stress.run import run_stress_tests

    run_stress_tests(given, Path(__file__).resolve().parent.parent)


if __name__ == "__main__":
    raise SystemExit(main())
