"""Show which classes and images are predicted wrong: `python validation.py --help`."""

from collections.abc import Sequence

from soups.cli import flags as cli
from soups.pipeline.settings.commands import VALIDATION_ENVIRONMENT, ValidationSettings


def main(argv: Sequence[str] | None = None) -> int:
    """Parse, validate, and return the exit code."""
    return cli.run(ValidationSettings, command, argv, environment=VALIDATION_ENVIRONMENT)


def command(given: cli.ParsedSettings[ValidationSettings]) -> None:
    """Imported late, so that `--help` is quick."""
    from soups.pipeline.commands.validate import validate

    validate(given)


if __name__ == "__main__":
    cli.leave(main())
