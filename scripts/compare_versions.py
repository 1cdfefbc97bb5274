"""Compare what two versions of this repository compute on toy data: `python scripts/compare_versions.py --help`."""

import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from soups.cli import outcome
from soups.cli.flags import ParsedSettings
from tools.compare_versions.settings import CompareVersionsSettings


def main(argv: Sequence[str] | None = None) -> int:
    """Parse, run both versions, compare, and return the exit code."""
    return outcome.run(CompareVersionsSettings, command, argv)


def command(given: ParsedSettings[CompareVersionsSettings]) -> None:
    """Imported late, so that `--help` is quick."""
    from tools.compare_versions.run import compare_versions

    compare_versions(given.settings, Path(__file__).resolve().parent.parent)


if __name__ == "__main__":
    raise SystemExit(main())
