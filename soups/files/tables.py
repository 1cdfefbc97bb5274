"""Reading of CSV tables of any origin: separator, encoding, blanks in the header and an index column are detected."""

import csv
import re
import shlex
import unicodedata
from pathlib import Path
from typing import TYPE_CHECKING

from soups.core.errors import DataError
from soups.core.notes import add_note

if TYPE_CHECKING:
    import pandas as pd

_SAMPLE = 64 * 1024
"""Bytes from which encoding and separator are detected."""
LABEL_COLUMNS = ("target", "label", "ans", "class", "prediction", "predicted")
"""Usual names of the column with the class, in lower case."""
TABLE_ENDINGS = (".csv", ".tsv", ".txt")
ID_COLUMNS = ("id", "image", "image_id", "imageid", "file", "filename", "file_name", "path", "name")
IMAGE_ENDING = re.compile(r"\.(jpe?g|png|bmp|gif|tiff?|webp|jfif|heic|avif)$", re.IGNORECASE)
_OTHER_READERS = {".xlsx": "excel", ".xls": "excel", ".ods": "excel", ".parquet": "parquet", ".json": "json"}
"""Ending of a table of another format → its reader in pandas."""
_DIGITS = re.compile(r"\d+")
_FRACTION = re.compile(r"\d*[.,]\d+")
_ROWS_COMPARED = 20
_SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs"}


def read_table(path: Path) -> "pd.DataFrame":
    """Read a CSV with every cell as text: id `007` stays `007`, label `NA` stays `NA`, empty cells stay empty.

    What differs from a UTF-8 table with commas is detected and logged in one line: semicolons or tabs between the
    cells, UTF-16 or Windows-1252, a first column of numbers without a name, as pandas writes its index (it is left
    out), and two columns without a header (they are named image and label). Blanks around names in the header are
    removed.

    Raises:
        DataError: the file is missing, empty or not a CSV table, or a table of more than two columns has no header.
    """
    import pandas as pd

    if (reader := _OTHER_READERS.get(path.suffix.lower())) and path.exists():
        target = path.with_suffix(".csv")
        convert = f'import pandas; pandas.read_{reader}("{path}").to_csv("{target}", index=False)'
        raise DataError(
            f"{path}: not a CSV table",
            expected="a CSV file",
            found=f"a file that ends in {path.suffix}",
            next_step=f"write it as CSV: python -c {shlex.quote(convert)}",
        )
    try:
        with path.open("rb") as stream:
            sample = stream.read(_SAMPLE)
        encoding = _detect_encoding(sample, path)
        separator = _detect_separator(sample.decode(encoding, errors="ignore"), is_cut=len(sample) == _SAMPLE)
        table = pd.read_csv(path, sep=separator, dtype=str, keep_default_na=False, encoding=encoding)
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file", expected="a CSV file") from error
    except IsADirectoryError as error:
        raise DataError(f"{path}: is a folder", expected="a CSV file") from error
    except (pd.errors.EmptyDataError, pd.errors.ParserError, UnicodeDecodeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise DataError(f"{path}: not a readable CSV table", expected="CSV with a header row", found=reason) from error
    if not isinstance(table.index, pd.RangeIndex):
        # pandas uses the first column of such rows as row names and shifts all other columns by one.
        raise DataError(
            f"{path}: the rows have more fields than the header",
            expected=f"{len(table.columns)} fields in a row",
            next_step="remove the separators at the ends of the rows, or name the missing columns in the header",
        )
    if separator != ",":
        add_note("read as", f"{path}: cells are separated by {_SEPARATORS[separator]}")
    if encoding == "cp1252" and table.shape[1] < 2:
        raise DataError(f"{path}: not a readable CSV table", expected="CSV with a header row", found="other bytes")
    if encoding == "cp1252":
        text = "read as Windows-1252, because it is not UTF-8; save it as UTF-8 if names look wrong"
        add_note("read as", f"{path}: {text}")
    _check_distinct_columns(sample.decode(encoding, errors="ignore"), separator, table, path)
    table.columns = table.columns.str.strip()
    table = _with_header(table, path)
    if _is_index(table):
        add_note("read as", f"{path}: the first column has no name and counts the rows; it is left out")
        table = table.iloc[:, 1:]
    return table


def is_table(name: str) -> bool:
    """Return whether a file name is that of a text table, by its ending."""
    return name.lower().endswith(TABLE_ENDINGS)


def canonical_id(name: str) -> str:
    """Return an image's id without surrounding blanks and `./`, with `/` for `\\`, in Unicode's composed form (NFC)."""
    return unicodedata.normalize("NFC", name.strip()).replace("\\", "/").removeprefix("./")


def _detect_encoding(sample: bytes, path: Path) -> str:
    if sample.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "utf-16"
    if b"\0" in sample:
        raise DataError(
            f"{path}: not a readable CSV table",
            expected="CSV in UTF-8, or in UTF-16 with a byte order mark",
            found="bytes of value 0",
            next_step="save the table as CSV in UTF-8",
        )
    try:
        # A character may be cut at the end of the sample.
        sample[: sample.rfind(b"\n") + 1 or len(sample)].decode("utf-8-sig")
    except UnicodeDecodeError:
        return "cp1252"
    return "utf-8-sig"


def _detect_separator(text: str, is_cut: bool) -> str:
    """Return the separator that gives the header the most cells if every complete row has as many; else a comma."""
    lines = text.splitlines()
    lines = lines[:-1] if is_cut else lines
    best, most = ",", 1
    for separator in _SEPARATORS:
        try:
            widths = {len(row) for row in csv.reader(lines[:200], delimiter=separator) if row}
        except csv.Error:
            continue
        if len(widths) == 1 and (width := widths.pop()) > most:
            best, most = separator, width
    return best


def _check_distinct_columns(text: str, separator: str, table: "pd.DataFrame", path: Path) -> None:
    """Raise if the header names a column twice and the two differ; pandas renames the second (`label.1`)."""
    header = next((row for row in csv.reader(text.splitlines(), delimiter=separator) if row), [])
    names = [name.strip() for name in header]
    for index, name in enumerate(names[: table.shape[1]]):
        first = names.index(name)
        if name and first != index and not table.iloc[:, first].equals(table.iloc[:, index]):
            raise DataError(
                f"{path}: two columns named {name!r} that differ",
                expected="a name for each column",
                found=f"columns {', '.join(names)}",
                next_step="rename or remove one of them",
            )


def _with_header(table: "pd.DataFrame", path: Path) -> "pd.DataFrame":
    """Return a table of two columns whose first line is no header with that line as its first row; others as they are.

    A first line is no header if a cell of it is an image, a fraction, or like the cells below it but for the digits; or
    if it is a class that other rows have, too.

    Raises:
        DataError: a table of more than two columns has no header, or the first line is 0 and 1.
    """
    import pandas as pd

    names = [str(name) for name in table.columns]
    if len(names) < 2 or any(name.lower() in ID_COLUMNS for name in names[:2]):
        return table
    is_data = [_is_like(name, table.iloc[:, place]) for place, name in enumerate(names)]
    is_class = (
        len(names) == 2 and names[1].lower() not in LABEL_COLUMNS and (table.iloc[:, 1].str.strip() == names[1]).any()
    )
    if not any(is_data) and not is_class:
        return table
    if len(names) > 2 or (names == ["0", "1"] and not is_class):
        raise DataError(
            f"{path}: no header",
            expected="names of the columns in the first line, such as image,label",
            found=", ".join(names),
            next_step="add such a line",
        )
    add_note("read as", f"{path}: no header; its columns are read as image and label")
    named = table.set_axis(
        ["label", "image"] if is_data == [False, True] and not is_class else ["image", "label"], axis=1
    )
    return pd.concat([pd.DataFrame([names], columns=named.columns), named], ignore_index=True)


def _is_like(name: str, cells: "pd.Series[str]") -> bool:
    """Whether a name in the header is more like a cell than like a name."""
    if IMAGE_ENDING.search(name.strip()) or _FRACTION.fullmatch(name):
        return True
    shapes = {_DIGITS.sub("0", cell.strip()) for cell in cells.head(_ROWS_COMPARED)}
    return bool(_DIGITS.search(name)) and shapes == {_DIGITS.sub("0", name)}


def _is_index(table: "pd.DataFrame") -> bool:
    """Whether the first column is pandas' index: distinct numbers without a name, beside a column of distinct ids."""
    if table.shape[1] < 3 or table.columns[0] not in ("", "Unnamed: 0") or table.columns[1].lower() in LABEL_COLUMNS:
        return False
    first, second = table.iloc[:, 0].str.strip(), table.iloc[:, 1]
    return bool(first.str.isdecimal().all() and first.is_unique and second.is_unique)
