"""Atomic writes of tables page by page, in the format of the extension."""

import importlib.util
import os
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from soups.core.errors import EnvironmentFailure, UsageError
from soups.files.table_writers import require_writer, write_pages

TABLE = pd.DataFrame(
    {"image": ["007", "ä,b.png", 'q"uote', "NA", ""], "target": [1, 0, 2, 1, 0], "confidence": [0.1, 1 / 3, 1, 0, 1e-9]}
)


def pages(size: int = 2) -> Iterator[pd.DataFrame]:
    return (TABLE.iloc[start : start + size].reset_index(drop=True) for start in range(0, len(TABLE), size))


def test_pages_give_the_csv_of_the_whole_table(tmp_path: Path) -> None:
    for name, size in (("whole.csv", 9), ("pages.CSV", 2)):
        write_pages(tmp_path / name, pages(size))
        assert (tmp_path / name).read_text(encoding="utf-8") == TABLE.to_csv(index=False, lineterminator="\n")


@pytest.mark.skipif(
    importlib.util.find_spec("pyarrow") is None and not os.environ.get("CI"), reason="pyarrow is not installed"
)
def test_pages_give_the_parquet_of_the_whole_table(tmp_path: Path) -> None:
    path = tmp_path / "table.parquet"
    write_pages(path, pages())
    pd.testing.assert_frame_equal(pd.read_parquet(path), TABLE)
    twice = pd.concat([TABLE, TABLE[["target"]]], axis=1)
    write_pages(path, [twice])  # A class may have the name of a column.
    import pyarrow.parquet

    assert pyarrow.parquet.read_schema(path).names == ["image", "target", "confidence", "target"]


def test_a_failed_write_keeps_the_old_table(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    write_pages(path, pages())
    content, time = path.read_bytes(), path.stat().st_mtime_ns
    write_pages(path, pages(3))
    assert path.stat().st_mtime_ns == time, "a table with equal bytes is not replaced"

    def failing_pages() -> Iterator[pd.DataFrame]:
        yield TABLE
        raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError, match="in the middle"):
        write_pages(path, failing_pages())
    assert path.read_bytes() == content and list(tmp_path.iterdir()) == [path]


def test_unknown_extensions_and_missing_packages_are_rejected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match=r"a\.csvv: unknown kind of table(.|\n)*\.csv or \.parquet(.|\n)*mean '\.csv'"):
        require_writer(Path("a.csvv"))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(EnvironmentFailure, match="pip install pyarrow"):
        write_pages(tmp_path / "a.parquet", pages())
    assert list(tmp_path.iterdir()) == []
