"""Propose corrections of labels that are probably wrong: `python scripts/find_label_errors.py --help`."""

import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from soups.cli import flags as cli
from soups.pipeline.settings.commands import TRAINING_ENVIRONMENT
from soups.pipeline.settings.tools import LabelErrorsSettings


def main(argv: Sequence[str] | None = None) -> int:
    """Parse, look, and return the exit code."""
    return cli.run(LabelErrorsSettings, command, argv, environment=TRAINING_ENVIRONMENT)


def command(given: cli.ParsedSettings[LabelErrorsSettings]) -> None:
    """Imported late, so that `--help` is quick."""
    from soups.pipeline.commands.label_errors import find_label_errors

    find_label_errors(given)


if __name__ == "__main__":
    raise SystemExit(main())
