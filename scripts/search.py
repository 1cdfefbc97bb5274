"""Search for hyperparameters; each trial is a fine-tune that may join a soup: `python scripts/search.py --help`."""

import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from soups import cli
from soups.pipeline.search_settings import SearchSettings
from soups.pipeline.settings import TRAINING_ENVIRONMENT


def main(argv: Sequence[str] | None = None) -> int:
    """Parse, search, and return the exit code."""
    return cli.run(SearchSettings, command, argv, environment=TRAINING_ENVIRONMENT)


def command(given: cli.Given[SearchSettings]) -> None:
    """Imported late, so that `--help` is quick."""
    from soups.pipeline.search import search

    search(given)


if __name__ == "__main__":
    raise SystemExit(main())
