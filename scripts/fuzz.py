"""Reads mutated files of every kind and reports how each was answered: `--help`."""

import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from soups.cli import outcome
from soups.cli.flags import ParsedSettings
from tools.fuzz.settings import FuzzSettings


def main(argv: Sequence[str] | None = None) -> int:
    """Parse, read the files, and return the exit code."""
    return outcome.run(FuzzSettings, command, argv)


def command(given: ParsedSettings[FuzzSettings]) -> None:
    """Imported late, so that `--help` is quick."""
    from tools.fuzz.run import run_fuzz

    run_fuzz(given)


if __name__ == "__main__":
    raise SystemExit(main())
