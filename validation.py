"""Shows which classes and images are predicted wrong: `python validation.py --help`."""

from collections.abc import Sequence

from soups import commands


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return the exit code."""
    return commands.run("validation", argv)


if __name__ == "__main__":
    raise SystemExit(main())
