"""Draw the demo's faces: people with and without masks, some under wrong labels; prints the folder."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from soups.cli import outcome
from tools.demo_data.faces import make_faces
from tools.demo_data.settings import FacesSettings


def main(argv: list[str] | None = None) -> int:
    """Returns the exit code."""
    return outcome.run(FacesSettings, lambda given: print(make_faces(given.settings)), argv)


if __name__ == "__main__":
    raise SystemExit(main())
