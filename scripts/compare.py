"""Fine-tune several networks under one budget and put them side by side: `python scripts/compare.py --help`."""

import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from soups.cli import flags as cli
from soups.pipeline.settings.compare import CompareSettings


def main(argv: Sequence[str] | None = None) -> int:
    """Parse, compare, and return the exit code."""
    return cli.run(CompareSettings, command, argv)


def command(given: cli.ParsedSettings[CompareSettings]) -> None:
    """Imported late, so that `--help` is quick."""
    from soups.pipeline.compare.networks import compare_models

    compare_models(given)


if __name__ == "__main__":
    raise SystemExit(main())
