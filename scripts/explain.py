"""Show what a model looks at: `python scripts/explain.py --help`."""

import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from soups.cli import flags as cli
from soups.pipeline.settings.tools import ExplainSettings


def main(argv: Sequence[str] | None = None) -> int:
    """Parse, explain, and return the exit code."""
    return cli.run(ExplainSettings, command, argv)


def command(given: cli.ParsedSettings[ExplainSettings]) -> None:
    """Imported late, so that `--help` is quick."""
    from soups.pipeline.commands.explain import explain

    explain(given)


if __name__ == "__main__":
    raise SystemExit(main())
