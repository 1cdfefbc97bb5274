"""Propose corrections of labels that are probably wrong: `python scripts/find_label_errors.py --help`."""

import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from soups import cli
from soups.pipeline.script_settings import LabelErrorsSettings
from soups.pipeline.settings import TRAINING_ENVIRONMENT


def main(argv: Sequence[str] | None = None) -> int:
    """Parse, look, and return the exit code."""
    return cli.run(LabelErrorsSettings, command, argv, environment=TRAINING_ENVIRONMENT)


def command(given: cli.Given[LabelErrorsSettings]) -> None:
    """Imported late, so that `--help` is quick."""
    from soups.pipeline.label_errors import find_label_errors

    find_label_errors(given)


if __name__ == "__main__":
    raise SystemExit(main())
