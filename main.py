"""Scores models, makes soups, compares and plots: `python main.py --help`."""

from collections.abc import Sequence

from soups import commands


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return the exit code."""
    return commands.run("main", argv)


if __name__ == "__main__":
    raise SystemExit(main())
