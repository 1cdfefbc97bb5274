"""Names of files, classes, runs and models that try to break pages, tables, shells, terminals and paths."""

import os
from collections.abc import Sequence
from pathlib import Path

from tools.tried_cases.case import draw

MARK = "document.documentElement.dataset.hacked=1"
"""JavaScript that leaves an attribute on the page, for a test to find."""
CANARY = "hacked"
"""Name of the file that shell commands in names would create."""

HOSTILE: tuple[str, ...] = (
    f"<img src=x onerror={MARK}>",
    f"<script>{MARK}<",  # A file name holds no slash; a browser ends the element by itself.
    f'"><svg onload={MARK}>',
    f"' autofocus onfocus={MARK} x='",
    f"javascript:{MARK}",
    "<!--",
    "]]>",
    "&lt;b&gt;",
    "{{ 7 * 7 }}",
    "{% raw %}",
    "${7*7}",
    f"$(touch {CANARY})",
    f"`touch {CANARY}`",
    f"; touch {CANARY};",
    f"| touch {CANARY}",
    f"!!python-object-apply:os.system ['touch {CANARY}']",
    "=cmd|' -C calc'!A0",
    "+1+1",
    "-1+1",
    "@SUM(1)",
    "--help",
    "line\nbreak",
    "tab\tstop",
    " leading",
    "trailing ",
    "dots...",
    "%s%n%d",
    "%00",
    "x" * 247,
    "right\u202eleft",
    "zero\u200bwidth",
    "cafe\u0301",
    "\U0001f600",
    "CON",
    "back\\slash",
    "colon:",
    "*",
    "[a-z]",
    "~root",
    "# comment",
    "comma,semicolon;",
    '"quoted"',
    "null",
    "NaN",
    "True",
    "1e5",
    "\x1b[31mred\x1b[0m",
    "bell\x07",
    "\ufeffmark",
    "$a_b^2$",
    "[link](x)",
    "key: value",
    "*alias",
)
"""Each is a valid name of a file and of a folder on Linux, and can be written into a table."""

REFUSED: tuple[str, ...] = ("carriage\rreturn", os.fsdecode(b"caf\xe9"), os.fsdecode(b"\xff\xfe"))
"""Valid names that a CSV file in UTF-8 cannot hold."""

WITH_SLASHES: tuple[str, ...] = ("../outside", "/absolute", "a/../../outside", "../", "a/b", ".", "..", "")
"""Names of runs, models and outputs that lead out of their folder, or are none."""


def draw_hostile(root: Path, names: Sequence[str] = HOSTILE, count: int = 4) -> None:
    """Write `root/train/<class>/<file>.png` and `root/test/…`; classes and files both have hostile names."""
    for kind, name in enumerate(names):
        for number in range(count):
            file = f"{names[(kind + number) % len(names)]}.png"
            draw(root / "train" / name / file, kind, seed=kind * 100 + number)
        draw(root / "test" / name / f"{name}.png", kind, seed=kind * 100 + 50)
