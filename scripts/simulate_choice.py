"""Measure the rules that choose a model by validation images: `python scripts/simulate_choice.py --help`."""

import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from soups.cli import outcome
from soups.cli.flags import ParsedSettings
from tools.choice_simulation.settings import SimulationSettings


def main(argv: Sequence[str] | None = None) -> int:
    """Parse, simulate, and return the exit code."""
    return outcome.run(SimulationSettings, command, argv)


def command(given: ParsedSettings[SimulationSettings]) -> None:
    """Imported late, so that `--help` is quick."""
    from tools.choice_simulation.run import simulate

    simulate(given)


if __name__ == "__main__":
    raise SystemExit(main())
