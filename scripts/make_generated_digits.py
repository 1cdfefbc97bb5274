"""Make the embedded task real against generated: digits and digits sampled from a model; prints the folder."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from soups.cli import outcome
from tools.demo_data.generated import make_generated_digits
from tools.demo_data.settings import GeneratedDigitsSettings


def main(argv: list[str] | None = None) -> int:
    """Returns the exit code."""
    return outcome.run(GeneratedDigitsSettings, lambda given: print(make_generated_digits(given.settings)), argv)


if __name__ == "__main__":
    raise SystemExit(main())
