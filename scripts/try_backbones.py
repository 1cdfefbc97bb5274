"""Try every backbone once: build, a step of training, load, soup, vote: `python scripts/try_backbones.py --help`."""

import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from soups.cli import outcome
from soups.cli.flags import ParsedSettings
from tools.backbones.settings import BackboneSettings


def main(argv: Sequence[str] | None = None) -> int:
    """Parse, try, and return the exit code."""
    return outcome.run(BackboneSettings, command, argv)


def command(given: ParsedSettings[BackboneSettings]) -> None:
    """Imported late, so that `--help` is quick."""
    from tools.backbones.run import try_backbones

    try_backbones(given)


if __name__ == "__main__":
    raise SystemExit(main())
