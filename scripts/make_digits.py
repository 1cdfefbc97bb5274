"""Make the embedded data set of handwritten digits; prints its folder."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from soups.cli import outcome
from tools.demo_data.digits import make_digits
from tools.demo_data.settings import DigitsSettings


def main(argv: list[str] | None = None) -> int:
    """Returns the exit code."""
    return outcome.run(DigitsSettings, lambda given: print(make_digits(given.settings)), argv)


if __name__ == "__main__":
    raise SystemExit(main())
