"""Fine-tunes one model or several: `python finetune.py --help`."""

from collections.abc import Sequence

from soups import commands


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return the exit code."""
    return commands.run("finetune", argv)


if __name__ == "__main__":
    raise SystemExit(main())
