"""Pre-train the demo's tiny CLIP, or find it in the cache; prints its folder."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from soups.cli import outcome
from tools.demo_data.base import make_base
from tools.demo_data.settings import BaseSettings


def main(argv: list[str] | None = None) -> int:
    """Returns the exit code."""
    return outcome.run(BaseSettings, lambda given: print(make_base(given.settings)), argv)


if __name__ == "__main__":
    raise SystemExit(main())
