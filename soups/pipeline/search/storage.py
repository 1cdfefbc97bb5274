"""Storage of a search's trials: a journal file in the run's folder, or a database shared by several machines."""

import logging
import os
import time
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from soups.core.errors import EnvironmentFailure, UsageError
from soups.files.atomic import explain_write_errors, hold_lock

if TYPE_CHECKING:
    from optuna.storages import BaseStorage

logger = logging.getLogger(__name__)

HEARTBEAT_SECONDS = 30
"""Interval between heartbeats of a trial in a database; after two missed ones, another worker resumes the trial."""
_SECONDS_TO_CONNECT = 20
"""PostgreSQL's own timeout for an unreachable host is two minutes."""
JOURNAL = "study.journal"


def open_storage(folder: Path, url: str | None) -> "BaseStorage":
    """Return the storage of an Optuna study.

    Args:
        folder: the run's folder, which holds the journal.
        url: URL of a database; None for the journal.

    Raises:
        UsageError: The URL is invalid.
        EnvironmentFailure: The database is unreachable, its driver is not installed, or the folder is not writable.
    """
    return _open_journal(folder / JOURNAL) if url is None else _open_database(url)


class KernelLock:
    """A lock of the journal that the kernel releases with its process; acquiring it cuts a torn last line.

    Optuna's own lock outlives a killed process, and the next process waits for it for half a minute.
    """

    def __init__(self, path: Path) -> None:
        self.path, self._held = path, ExitStack()

    def acquire(self) -> bool:
        """Acquire the lock; blocks while another process holds it."""
        self._held.enter_context(hold_lock(self.path.parent, self.path.name))
        _cut_torn_tail(self.path)
        return True

    def release(self) -> None:
        """Release the lock."""
        self._held.close()


def _open_journal(path: Path) -> "BaseStorage":
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    lock = KernelLock(path)
    lock.acquire()
    try:
        with explain_write_errors(path):
            # Optuna calls only `acquire` and `release`.
            return JournalStorage(JournalFileBackend(str(path), lock))  # type: ignore[arg-type]
    finally:
        lock.release()


def _open_database(url: str) -> "BaseStorage":
    from optuna.storages import RDBStorage
    from sqlalchemy.exc import ArgumentError, IntegrityError, ProgrammingError, SQLAlchemyError
    from sqlalchemy.pool import NullPool

    class Database(RDBStorage):
        """Warns where a heartbeat is lost: an error would end the thread that sends them, and the trial would go on."""

        def record_heartbeat(self, trial_id: int) -> None:
            try:
                super().record_heartbeat(trial_id)
            except Exception as error:  # Finishing the trial fails if another process took it over.
                logger.warning("the database did not record a heartbeat: %s", _first_line(error))

    location = f"--storage {_without_password(url)}"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Optuna marks the heartbeat as experimental.
            # A trial takes hours and writes rarely, so connections are not kept open in between.
            engine: dict[str, Any] = {"poolclass": NullPool}
            if url.startswith("postgresql") and "connect_timeout" not in url:
                engine["connect_args"] = {"connect_timeout": _SECONDS_TO_CONNECT}
            options: dict[str, Any] = {"heartbeat_interval": HEARTBEAT_SECONDS, "engine_kwargs": engine}
            for _ in range(5):
                with suppress(IntegrityError, ProgrammingError):  # Another process is creating the tables.
                    return Database(url, **options)
                time.sleep(0.5)
            return Database(url, **options)
    except ArgumentError as error:
        raise UsageError(
            location, expected="a URL such as postgresql://USER:PASSWORD@HOST/NAME", found=_first_line(error)
        ) from None
    except ImportError as error:
        raise EnvironmentFailure(
            f"{location}: the database's driver is not installed",
            found=_first_line(error.__cause__ or error),
            next_step='for PostgreSQL: pip install "psycopg[binary]"',
        ) from error
    except SQLAlchemyError as error:
        raise EnvironmentFailure(
            f"{location}: the database does not respond",
            found=_first_line(error),
            next_step="check that the server is running and that the URL is right",
        ) from None


@contextmanager
def explain_database_errors(url: str | None) -> Iterator[None]:
    """Translate database errors within the block into an error for the user.

    Raises:
        EnvironmentFailure: The database stopped responding.
    """
    if url is None:
        yield
        return
    from optuna.exceptions import StorageInternalError
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (StorageInternalError, SQLAlchemyError) as error:
        raise EnvironmentFailure(
            f"--storage {_without_password(url)}: the database stopped responding",
            found=_first_line(error.__cause__ or error),
            next_step="restart the database and run the same command again: trials resume where they were",
        ) from error


def _first_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0]


def _without_password(url: str) -> str:
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    with suppress(ArgumentError):
        url = make_url(url).render_as_string(hide_password=True)
    return url


def _cut_torn_tail(path: Path) -> None:
    """Cut a last line without a line break: its write was never confirmed, and Optuna cannot read lines behind it."""
    with suppress(FileNotFoundError), path.open("rb+") as stream:
        size = stream.seek(0, os.SEEK_END)
        stream.seek(max(0, size - 1))
        if stream.read() in (b"", b"\n"):
            return
        stream.seek(0)
        end = stream.read().rfind(b"\n") + 1
        stream.truncate(end)
        os.fsync(stream.fileno())
        logger.warning("%s: removed a last line that a crash had cut off (%d bytes)", path, size - end)
