"""Atomic writes of large tables, page by page, as CSV or Parquet by the file's extension."""

from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from soups.core.errors import UsageError, did_you_mean
from soups.core.packages import require_package
from soups.files.atomic import atomic_write
from soups.files.formulas import find_formulas, report_formulas

if TYPE_CHECKING:
    import pandas as pd

    Writer = Callable[[Path, Iterable[pd.DataFrame]], None]


def require_writer(path: Path) -> None:
    """Raise if a table cannot be written to `path`; call this before long work.

    Raises:
        UsageError: the extension is unknown.
        EnvironmentFailure: the package that writes the format is not installed.
    """
    extension = path.suffix.lower()
    if extension not in WRITERS:
        raise UsageError(
            f"{path}: unknown kind of table {path.suffix!r}",
            expected=f"a name that ends in {' or '.join(WRITERS)}",
            next_step=did_you_mean(extension, WRITERS),
        )
    if extension == ".parquet":
        require_package("pyarrow", f"{path}: Parquet")


def write_pages(path: Path, pages: "Iterable[pd.DataFrame]") -> None:
    """Write the rows of all pages as one table; a file with the same bytes is not replaced.

    Args:
        path: the file; its extension selects the format.
        pages: tables of the same columns with at least one row each; one is in memory at a time.

    Raises:
        UsageError: the extension is unknown.
        EnvironmentFailure: a package is missing, the disk is full or the folder cannot be written.
    """
    require_writer(path)
    formulas: list[str] = []

    def search_pages() -> "Iterator[pd.DataFrame]":
        for page in pages:
            formulas.extend(find_formulas(page))
            yield page

    with atomic_write(path, keep_equal=True) as temporary:
        WRITERS[path.suffix.lower()](temporary, search_pages())
    report_formulas(path, formulas)


def _write_csv(path: Path, pages: "Iterable[pd.DataFrame]") -> None:
    with path.open("w", encoding="utf-8", newline="") as stream:
        for number, page in enumerate(pages):
            page.to_csv(stream, header=number == 0, index=False, lineterminator="\n")


def _write_parquet(path: Path, pages: "Iterable[pd.DataFrame]") -> None:
    import pyarrow.parquet

    tables = _to_arrow_tables(pages)
    first = next(tables)
    with pyarrow.parquet.ParquetWriter(path, first.schema) as writer:
        for table in chain([first], tables):
            writer.write_table(table)


def _to_arrow_tables(pages: "Iterable[pd.DataFrame]") -> Iterator[Any]:
    """Convert pages: numbers keep their dtype, all else becomes text; pandas' own metadata is omitted."""
    import pyarrow

    for page in pages:
        columns = [page.iloc[:, index] for index in range(page.shape[1])]
        arrays = [
            pyarrow.array(column.to_numpy())
            if column.dtype.kind in "iuf"
            else pyarrow.array(column.astype(str).tolist(), type=pyarrow.string())
            for column in columns
        ]
        yield pyarrow.Table.from_arrays(arrays, names=[str(name) for name in page.columns])


WRITERS: "dict[str, Writer]" = {".csv": _write_csv, ".parquet": _write_parquet}
