"""List the images on which models or tables of predictions disagree: `python scripts/disagreement.py --help`."""

import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from soups.cli import flags as cli
from soups.pipeline.settings.tools import DisagreementSettings


def main(argv: Sequence[str] | None = None) -> int:
    """Parse, compare, and return the exit code."""
    return cli.run(DisagreementSettings, command, argv)


def command(given: cli.ParsedSettings[DisagreementSettings]) -> None:
    """Imported late, so that `--help` is quick."""
    from soups.pipeline.commands.disagreement import list_disagreement

    list_disagreement(given)


if __name__ == "__main__":
    raise SystemExit(main())
