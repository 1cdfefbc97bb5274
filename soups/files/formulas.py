"""Cells of written tables that a spreadsheet would read as formulas."""

import logging
import re
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

logger = logging.getLogger(__name__)

_SIGNS = ("=", "+", "-", "@")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.IGNORECASE)


def find_formulas(table: "pd.DataFrame") -> list[str]:
    """Return the column names and texts of a table that begin with =, +, - or @, except numbers."""
    columns = (table.iloc[:, index] for index, dtype in enumerate(table.dtypes) if dtype.kind not in "biuf")
    cells = (cell for cell in chain(table.columns, *columns) if isinstance(cell, str) and cell.startswith(_SIGNS))
    return [cell for cell in cells if not _NUMBER.fullmatch(cell)]


def report_formulas(path: Path, cells: Sequence[str]) -> None:
    """Log how many different cells `find_formulas` has found in the table `path`, if any."""
    if cells:
        names = list(dict.fromkeys(cells))
        found = f"{len(names)} names that begin with =, +, - or @, such as {names[0]!r}"
        logger.warning("%s: %s; import the table as text, because a spreadsheet may run them as formulas", path, found)
