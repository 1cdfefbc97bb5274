"""Predict the classes of the test images with one model or a vote: `python inference.py --help`."""

from collections.abc import Sequence

from soups.cli import flags as cli
from soups.pipeline.settings.commands import INFERENCE_ENVIRONMENT, InferenceSettings


def main(argv: Sequence[str] | None = None) -> int:
    """Parse, predict, and return the exit code."""
    return cli.run(InferenceSettings, command, argv, environment=INFERENCE_ENVIRONMENT)


def command(given: cli.ParsedSettings[InferenceSettings]) -> None:
    """Imported late, so that `--help` is quick."""
    from soups.pipeline.commands.predict import predict

    predict(given)


if __name__ == "__main__":
    cli.leave(main())
