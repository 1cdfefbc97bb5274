"""Fine-tune one model or several: `python finetune.py --help`."""

from collections.abc import Sequence

from soups.cli import flags as cli
from soups.pipeline.settings.commands import TRAINING_ENVIRONMENT, FinetuneSettings


def main(argv: Sequence[str] | None = None) -> int:
    """Parse, train, and return the exit code."""
    return cli.run(FinetuneSettings, command, argv, environment=TRAINING_ENVIRONMENT)


def command(given: cli.ParsedSettings[FinetuneSettings]) -> None:
    """Imported late, so that `--help` is quick."""
    from soups.pipeline.train.finetune import finetune

    finetune(given)


if __name__ == "__main__":
    cli.leave(main())
