"""Draw what the model will see, with labels, before anything is trained: `python scripts/show_batch.py --help`."""

import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from soups.cli import flags as cli
from soups.pipeline.settings.commands import TRAINING_ENVIRONMENT
from soups.pipeline.settings.tools import ShowBatchSettings


def main(argv: Sequence[str] | None = None) -> int:
    """Parse, draw, and return the exit code."""
    return cli.run(ShowBatchSettings, command, argv, environment=TRAINING_ENVIRONMENT)


def command(given: cli.ParsedSettings[ShowBatchSettings]) -> None:
    """Imported late, so that `--help` is quick."""
    from soups.pipeline.commands.show_batch import show_batch

    show_batch(given)


if __name__ == "__main__":
    raise SystemExit(main())
