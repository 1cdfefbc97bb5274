"""Write a model as a file that runs without its code, torch.export or ONNX: `python scripts/export.py --help`."""

import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from soups.cli import flags as cli
from soups.pipeline.settings.delivery import ExportSettings


def main(argv: Sequence[str] | None = None) -> int:
    """Parse, export, and return the exit code."""
    return cli.run(ExportSettings, command, argv)


def command(given: cli.ParsedSettings[ExportSettings]) -> None:
    """Imported late, so that `--help` is quick."""
    from soups.pipeline.commands.export import export

    export(given)


if __name__ == "__main__":
    raise SystemExit(main())
