"""Prints every reported input with its commands and what they say now; arguments select sections.

Exits with 1 if an answer differs from the right one.
"""

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tools.tried_cases.case import SECTIONS, find_faults, load_cases, run_case


def main(sections: Sequence[str]) -> int:
    """Run the cases of the sections and return the exit code."""
    unknown = sorted(set(sections) - set(SECTIONS))
    if unknown:
        print(f"error: section\n  expected: {', '.join(SECTIONS)}\n  found:    {', '.join(unknown)}", file=sys.stderr)
        return 2
    wrong = count = 0
    for section in sections or SECTIONS:
        for case in load_cases(section):
            with tempfile.TemporaryDirectory() as folder:
                outcome = run_case(case, Path(folder))
                try:
                    faults = find_faults(case, outcome, Path(folder))
                except AssertionError as error:
                    faults = [f"what was written differs: {error}"]
            count, wrong = count + 1, wrong + bool(faults)
            print(f"\n## {section}: {case.name}: {'right' if not faults else 'WRONG: ' + '; '.join(faults)}\n")
            for command, code, text in zip(case.commands, outcome.exit_codes, outcome.texts, strict=False):
                print(f"$ soups {command}\n{text.rstrip()}\n[exit code {code}]")
    print(f"\n{count} cases, {wrong} wrong")
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
