"""Pick from a large pool the images most like a target set: `python scripts/curate.py --help`."""

import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from soups.cli import flags as cli
from soups.pipeline.settings.tools import CurateSettings


def main(argv: Sequence[str] | None = None) -> int:
    """Parse, pick, and return the exit code."""
    return cli.run(CurateSettings, command, argv)


def command(given: cli.ParsedSettings[CurateSettings]) -> None:
    """Imported late, so that `--help` is quick."""
    from soups.pipeline.commands.curate import curate

    curate(given)


if __name__ == "__main__":
    raise SystemExit(main())
