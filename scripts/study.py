"""The command `soups study`: `python scripts/study.py --help`."""

import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from soups import commands


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return the exit code."""
    return commands.run("study", argv, prog="python scripts/study.py")


if __name__ == "__main__":
    raise SystemExit(main())
