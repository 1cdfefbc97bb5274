"""Where the trials of a search are kept: a journal in the run's folder, or a database that many machines share."""

import logging
import os
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from soups.core.errors import EnvironmentFailure, UsageError
from soups.files.atomic import explain_write_errors, hold_lock

if TYPE_CHECKING:
    from optuna.storages import BaseStorage

logger = logging.getLogger(__name__)

HEARTBEAT_SECONDS = 30
"""Between two signs of life of a trial in a database; after two that are missing, somebody else takes the trial."""
_SECONDS_TO_CONNECT = 20
"""PostgreSQL's own patience with a machine that is not there is two minutes."""
JOURNAL = "study.journal"


def open_storage(folder: Path, url: str | None) -> "BaseStorage":
    """The storage of a study.

    Args:
        folder: of the run, which holds the journal.
        url: of a database; None: the journal.

    Raises:
        UsageError: the URL means nothing.
        EnvironmentFailure: the database or its driver cannot be reached, or the folder may not be written.
    """
    return _journal(folder) if url is None else _database(url)


class KernelLock:
    """The lock of a journal, freed with its holder, whose half-written line is cut before anybody writes behind it.

    Optuna's own lock outlives its holder: the next one waits half a minute for a process that was killed.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def acquire(self) -> bool:
        """Hold the lock, waiting for any other process that does."""
        self.held = hold_lock(self.path.parent, self.path.name)
        self.held.__enter__()
        _cut_torn_tail(self.path)
        return True

    def release(self) -> None:
        """Let others have it."""
        self.held.__exit__(None, None, None)


def _journal(folder: Path) -> "BaseStorage":
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    path = folder / JOURNAL
    with explain_write_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = KernelLock(path)
        lock.acquire()
        try:
            # Optuna asks for no more than the two methods.
            return JournalStorage(JournalFileBackend(str(path), lock))  # type: ignore[arg-type]
        finally:
            lock.release()


def _database(url: str) -> "BaseStorage":
    from optuna.storages import RDBStorage
    from sqlalchemy.exc import ArgumentError, IntegrityError, ProgrammingError, SQLAlchemyError
    from sqlalchemy.pool import NullPool

    told = f"--storage {_without_password(url)}"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Optuna calls the heartbeat experimental.
            # A trial takes hours and says little: no connection is kept open between two words.
            engine: dict[str, Any] = {"poolclass": NullPool}
            if url.startswith("postgresql") and "connect_timeout" not in url:
                engine["connect_args"] = {"connect_timeout": _SECONDS_TO_CONNECT}
            options: dict[str, Any] = {"heartbeat_interval": HEARTBEAT_SECONDS, "engine_kwargs": engine}
            for _ in range(5):
                with suppress(IntegrityError, ProgrammingError):  # Another process makes the tables at this moment.
                    return RDBStorage(url, **options)
                time.sleep(0.5)
            return RDBStorage(url, **options)
    except ArgumentError as error:
        raise UsageError(
            told, expected="a URL such as postgresql://USER:PASSWORD@HOST/NAME", found=_first(error)
        ) from None
    except ImportError as error:
        cause = error.__cause__ or error
        raise EnvironmentFailure(
            f"{told}: the database's driver is not installed",
            found=_first(cause),
            next_step='for PostgreSQL: pip install "psycopg[binary]"',
        ) from error
    except SQLAlchemyError as error:
        raise EnvironmentFailure(
            f"{told}: the database does not answer", found=_first(error), next_step="see that it runs, and the URL"
        ) from None


@contextmanager
def explain_database_errors(url: str | None) -> Iterator[None]:
    """A database that stops answering within the block is the user's to mend.

    Raises:
        EnvironmentFailure: it does not answer any more.
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
            f"--storage {_without_password(url)}: the database does not answer any more",
            found=_first(error.__cause__ or error),
            next_step="run the same command again when it does: trials go on where they were",
        ) from error


def _first(error: BaseException) -> str:
    return str(error).strip().splitlines()[0]


def _without_password(url: str) -> str:
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        return make_url(url).render_as_string(hide_password=True)
    except ArgumentError:
        return url


def _cut_torn_tail(path: Path) -> None:
    """Cut a last line without its line break, which nobody was told is there; Optuna could never read on behind it."""
    try:
        with path.open("rb+") as stream:
            size = stream.seek(0, os.SEEK_END)
            if size == 0 or stream.seek(size - 1) < 0 or stream.read(1) == b"\n":
                return
            stream.seek(0)
            end = stream.read().rfind(b"\n") + 1
            stream.truncate(end)
            os.fsync(stream.fileno())
    except FileNotFoundError:
        return
    logger.warning("%s: the last line was cut off by a crash and is dropped (%d bytes)", path, size - end)
