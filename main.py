"""Evaluate the models of a run, make soups of them, compare and plot: `python main.py --help`."""

from collections.abc import Sequence

from soups.cli import flags as cli
from soups.pipeline.settings.commands import TRAINING_ENVIRONMENT, MainSettings


def main(argv: Sequence[str] | None = None) -> int:
    """Parse, do what was asked for, and return the exit code."""
    return cli.run(MainSettings, command, argv, environment=TRAINING_ENVIRONMENT)


def command(given: cli.ParsedSettings[MainSettings]) -> None:
    """Imported late, so that `--help` is quick."""
    from soups.pipeline.commands.main import run_main

    run_main(given)


if __name__ == "__main__":
    cli.leave(main())
