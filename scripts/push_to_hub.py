"""The command `soups push-to-hub`: `python scripts/push_to_hub.py --help`."""

import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from soups import commands


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return the exit code."""
    return commands.run("push-to-hub", argv, prog="python scripts/push_to_hub.py")


if __name__ == "__main__":
    raise SystemExit(main())
