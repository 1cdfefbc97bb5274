"""Durable files: whole or not at all, logs that survive a crash, hashes that notice a flipped byte."""

import errno
import filecmp
import hashlib
import json
import logging
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from soups.core.errors import AlreadyInProgress, DataError, EnvironmentFailure
from soups.files import temp_files as strays

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

logger = logging.getLogger(__name__)

_DISK_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_SILENT_SECONDS = 1.0
_FORBIDDEN = {errno.EACCES, errno.EPERM, errno.EROFS}


def explain_os_error(error: OSError, path: Path | str) -> EnvironmentFailure | None:
    """The operating system's refusal to write `path` as one message (exit code 4); None where it is no refusal."""
    if error.errno in _DISK_FULL:
        next_step = "free some space and run the same command again"
        return EnvironmentFailure(f"{path}: disk full while writing", next_step=next_step)
    if error.errno in _FORBIDDEN:
        next_step = "choose another folder or change its permissions"
        return EnvironmentFailure(f"{path}: no permission to write", next_step=next_step)
    if isinstance(error, FileExistsError | NotADirectoryError | IsADirectoryError):
        problem = f"{path}: cannot be written, {str(error.strerror).lower()}"
        return EnvironmentFailure(problem, next_step="move that file or folder away")
    return None


@contextmanager
def explain_write_errors(path: Path) -> Iterator[None]:
    """Turn the operating system's refusals while writing `path` into one message (exit code 4)."""
    try:
        yield
    except OSError as error:
        explained = explain_os_error(error, path)
        if explained is None:
            raise
        raise explained from error


@contextmanager
def hold_lock(folder: Path, name: str, *, wait: bool = True) -> Iterator[None]:
    """Hold the lock `name` of a folder, waiting for any other process that does; the kernel frees it with its holder.

    Whoever waits says so.

    Raises:
        EnvironmentFailure: the folder may not be written.
        AtWork: another process holds it, and nobody wants to `wait`.
    """
    from filelock import FileLock, Timeout

    locks = folder / ".locks"
    with explain_write_errors(folder):
        make_folder(locks)
        lock = FileLock(locks / name)
        try:
            lock.acquire(timeout=_SILENT_SECONDS if wait else 0)
        except Timeout:
            if not wait:
                raise AlreadyInProgress(f"{folder / name}: another process is at work on it") from None
            logger.info("%s: another process is at work on it; waiting until it is done", folder / name)
            lock.acquire()
    try:
        yield
    finally:
        lock.release()


def sync_folder(folder: Path) -> None:
    """Make sure that what was renamed in a folder stays so after a power cut."""
    if os.name == "nt":  # Windows has no handle for a folder.
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def make_folder(folder: Path) -> None:
    """Make a folder with those above it, so that what is synced into it is there after a power cut as well."""
    missing = [each for each in (folder, *folder.parents) if not each.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for each in missing:
        sync_folder(each.parent)


def _umask_mode() -> int:
    # The umask can only be read by setting it.
    mask = os.umask(0)
    os.umask(mask)
    return 0o666 & ~mask


@contextmanager
def atomic_write(path: Path, keep_equal: bool = False) -> Iterator[Path]:
    """Yield a temporary path; when the block ends well, it becomes `path` at once, synced to disk.

    If the block raises, nothing of it is left and an earlier `path` is untouched.

    Args:
        path: the file.
        keep_equal: one that has the same bytes already is left as it is.

    Raises:
        EnvironmentFailure: the disk is full or the folder may not be written.
    """
    with explain_write_errors(path):
        make_folder(path.parent)
        handle, name = tempfile.mkstemp(
            prefix=strays.temporary_prefix(path.name), suffix=strays.SUFFIX, dir=path.parent
        )
        os.close(handle)
        temporary = Path(name)
        try:
            yield temporary
            if not (keep_equal and path.is_file() and filecmp.cmp(temporary, path, shallow=False)):
                replace_atomically(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


def replace_atomically(temporary: Path, path: Path) -> None:
    """Make a finished file of the same folder be `path`, at once and synced to disk, with the mode of the umask."""
    with temporary.open("rb+") as stream:
        os.fsync(stream.fileno())
    temporary.chmod(_umask_mode())
    temporary.replace(path)
    sync_folder(path.parent)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text, whole or not at all; a file that says the same already is left as it is."""
    content = text.encode()
    try:
        if path.stat().st_size == len(content) and path.read_bytes() == content:
            return
    except OSError:
        pass
    with atomic_write(path) as temporary:
        temporary.write_bytes(content)


def write_json(path: Path, value: Any) -> None:
    """Write readable JSON with sorted keys, whole or not at all."""
    write_text(path, json.dumps(value, indent=2, sort_keys=True, allow_nan=False) + "\n")


def write_array(path: Path, array: "np.ndarray") -> None:
    """Write one array of numbers as `.npy`, whole or not at all.

    NumPy itself, given a file, writes beside its stream and never hears of a disk that fills with the last bytes: the
    file would be cut short, and published.
    """
    import numpy as np

    array = np.asarray(array, order="C")
    with atomic_write(path) as temporary, temporary.open("wb") as stream:
        np.lib.format.write_array_header_1_0(stream, np.lib.format.header_data_from_array_1_0(array))
        stream.write(array.data.cast("B") if array.size else b"")


def write_table(path: Path, table: "pd.DataFrame") -> None:
    """Write a table as CSV without its index, whole or not at all."""
    write_text(path, table.to_csv(index=False, lineterminator="\n"))


def read_table(path: Path) -> "pd.DataFrame":
    """Read a CSV with every cell as text: id `007` stays `007`, label `NA` stays `NA`, empty stays empty.

    Raises:
        DataError: the file is missing, empty or not a CSV table.
    """
    import pandas as pd

    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file", expected="a CSV file") from error
    except IsADirectoryError as error:
        raise DataError(f"{path}: is a folder", expected="a CSV file") from error
    except (pd.errors.EmptyDataError, pd.errors.ParserError, UnicodeDecodeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise DataError(f"{path}: not a readable CSV table", expected="CSV with a header row", found=reason) from error
    if not isinstance(table.index, pd.RangeIndex):
        # pandas takes the first column of such rows for row names, and all others move by one.
        raise DataError(
            f"{path}: its rows have more fields than its header",
            expected=f"{len(table.columns)} fields in a row",
            next_step="remove the commas at the ends of the rows, or name the missing columns in the header",
        )
    return table


def compact_json(value: Any) -> str:
    """JSON with sorted keys and no spaces: equal values give equal text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def fingerprint(value: Any) -> str:
    """Sixteen hexadecimal digits that stand for any JSON value."""
    return hashlib.sha256(compact_json(value).encode()).hexdigest()[:16]


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def append_record(path: Path, record: Mapping[str, Any]) -> None:
    """Append one line of JSON under a lock; when this returns, the line is on the disk.

    A torn tail (a writer was killed in the middle of a line) is cut first, with a notice.

    Raises:
        EnvironmentFailure: the disk is full or the log may not be written.
    """
    from filelock import FileLock

    line = (compact_json(dict(record)) + "\n").encode()
    with explain_write_errors(path):
        make_folder(path.parent)
        with FileLock(path.with_name(f".{path.name}.lock")):
            existed = path.exists()
            with path.open("ab+") as stream:
                end, line_break = _end_of_last_whole_line(path, stream.seek(0, os.SEEK_END))
                stream.truncate(end)
                try:
                    stream.write(line_break + line)
                    stream.flush()
                    os.fsync(stream.fileno())
                except OSError:
                    stream.truncate(end)
                    raise
            if not existed:
                sync_folder(path.parent)


def truncate_torn_line(path: Path) -> None:
    """Cut a torn last line off a log, with a notice, so that whoever reads it later need not tell it again.

    A log that is whole is not touched, and one that may not be written is left to its readers.
    """
    from filelock import FileLock

    with suppress(OSError), path.open("rb+") as stream:
        if stream.seek(0, os.SEEK_END) == 0 or stream.seek(-1, os.SEEK_END) < 0 or stream.read(1) == b"\n":
            return
        with FileLock(path.with_name(f".{path.name}.lock")):
            end, line_break = _end_of_last_whole_line(path, stream.seek(0, os.SEEK_END))
            if not line_break:
                stream.truncate(end)
                os.fsync(stream.fileno())


def _end_of_last_whole_line(path: Path, size: int) -> tuple[int, bytes]:
    """The size up to which the log is whole, and the line break that its last line may lack."""
    if size == 0:
        return 0, b""
    with path.open("rb") as stream:
        stream.seek(size - 1)
        if stream.read(1) == b"\n":
            return size, b""
        stream.seek(0)
        content = stream.read(size)
    end = content.rfind(b"\n") + 1
    tail = content[end:]
    if _is_object(tail):  # Another tool's file without a final line break, or a crash right before it.
        return size, b"\n"
    logger.warning("%s: the last line was cut off by a crash and is dropped (%d bytes)", path, len(tail))
    return end, b""


def _is_object(line: bytes) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False


def read_records(path: Path) -> list[dict[str, Any]]:
    """Read a JSONL log, oldest line first; a missing file is an empty log.

    A torn last line is left out; any other line that is not a JSON object is an error.

    Raises:
        DataError: a line before the last is damaged; names the line.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return []
    lines = content.split(b"\n")
    torn = lines.pop()
    records = [_parse_line(path, number, line) for number, line in enumerate(lines, start=1) if line.strip()]
    if _is_object(torn):
        records.append(json.loads(torn))
    elif torn.strip():
        logger.warning("%s: the last line was cut off by a crash and is left out", path)
    return records


def _parse_line(path: Path, number: int, line: bytes) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except ValueError as error:
        raise DataError(
            f"{path}, line {number}: not JSON",
            expected="one JSON object on each line",
            found=line[:60].decode(errors="replace"),
            next_step="mend or delete that line",
        ) from error
    if not isinstance(record, dict):
        raise DataError(f"{path}, line {number}: not a JSON object", found=line[:60].decode(errors="replace"))
    return record
