"""Search for hyperparameters; each trial is a fine-tune that may join a soup: `python scripts/search.py --help`."""

import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from soups.cli import flags as cli
from soups.pipeline.settings.commands import TRAINING_ENVIRONMENT
from soups.pipeline.settings.search import SearchSettings


def main(argv: Sequence[str] | None = None) -> int:
    """Parse, search, and return the exit code."""
    return cli.run(SearchSettings, command, argv, environment=TRAINING_ENVIRONMENT)


def command(given: cli.ParsedSettings[SearchSettings]) -> None:
    """Imported late, so that `--help` is quick."""
    from soups.pipeline.search.search import search

    search(given)


if __name__ == "__main__":
    raise SystemExit(main())
