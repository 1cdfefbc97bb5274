"""A model in a folder that timm or open_clip loads, pushed if asked: `python scripts/push_to_hub.py --help`."""

import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from soups.cli import flags as cli
from soups.pipeline.settings.delivery import PushSettings


def main(argv: Sequence[str] | None = None) -> int:
    """Parse, write, push if asked, and return the exit code."""
    return cli.run(PushSettings, command, argv)


def command(given: cli.ParsedSettings[PushSettings]) -> None:
    """Imported late, so that `--help` is quick."""
    from soups.pipeline.commands.push import push_to_hub

    push_to_hub(given)


if __name__ == "__main__":
    raise SystemExit(main())
