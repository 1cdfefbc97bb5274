"""Tables written a page of rows at a time, whole or not at all, as what their file's ending says."""

import importlib.util
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from soups.core.errors import EnvironmentFailure, UsageError, did_you_mean
from soups.files.atomic import atomic_write

if TYPE_CHECKING:
    import pandas as pd

    Writer = Callable[[Path, Iterable[pd.DataFrame]], None]


def require_writer(path: Path) -> None:
    """Raise, before anything is done, where nobody here can write a table of this name.

    Raises:
        UsageError: an unknown ending.
        EnvironmentFailure: what writes it is not installed.
    """
    ending = path.suffix.lower()
    if ending not in WRITERS:
        raise UsageError(
            f"{path}: unknown kind of table {path.suffix!r}",
            expected=f"a name that ends in {' or '.join(WRITERS)}",
            next_step=did_you_mean(ending, WRITERS),
        )
    if ending == ".parquet" and importlib.util.find_spec("pyarrow") is None:
        raise EnvironmentFailure(
            f"{path}: Parquet needs pyarrow, which is not installed", next_step="pip install pyarrow"
        )


def write_pages(path: Path, pages: "Iterable[pd.DataFrame]") -> None:
    """Write pages one below the other; a file that says the same already is left as it is.

    Args:
        path: the file; its ending says how it is written.
        pages: tables of the same columns, each with one row or more; only one is held in memory.

    Raises:
        UsageError: an unknown ending.
        EnvironmentFailure: what writes it is not installed, the disk is full or the folder may not be written.
    """
    require_writer(path)
    with atomic_write(path, keep_equal=True) as temporary:
        WRITERS[path.suffix.lower()](temporary, pages)


def _write_csv(path: Path, pages: "Iterable[pd.DataFrame]") -> None:
    with path.open("w", encoding="utf-8", newline="") as stream:
        for number, page in enumerate(pages):
            page.to_csv(stream, header=number == 0, index=False, lineterminator="\n")


def _write_parquet(path: Path, pages: "Iterable[pd.DataFrame]") -> None:
    import pyarrow.parquet

    groups = _arrow(pages)
    first = next(groups)
    with pyarrow.parquet.ParquetWriter(path, first.schema) as writer:
        for group in chain([first], groups):
            writer.write_table(group)


def _arrow(pages: "Iterable[pd.DataFrame]") -> Iterator[Any]:
    """Numbers as they are, everything else as text; without what pandas would add about itself."""
    import pyarrow

    for page in pages:
        columns = [page.iloc[:, place] for place in range(page.shape[1])]
        arrays = [
            pyarrow.array(column.to_numpy())
            if column.dtype.kind in "iuf"
            else pyarrow.array(column.astype(str).tolist(), type=pyarrow.string())
            for column in columns
        ]
        yield pyarrow.Table.from_arrays(arrays, names=[str(name) for name in page.columns])


WRITERS: "dict[str, Writer]" = {".csv": _write_csv, ".parquet": _write_parquet}
