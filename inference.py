"""Predicts test images with a model or an ensemble: `python inference.py --help`."""

from collections.abc import Sequence

from soups import commands


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return the exit code."""
    return commands.run("inference", argv)


if __name__ == "__main__":
    raise SystemExit(main())
