"""The trials of a search: which there are, who works at them and what became of them, in a journal or a database."""

import logging
import platform
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from soups.files.atomic import explain_write_errors, hold_lock, write_text
from soups.pipeline.search.storage import HEARTBEAT_SECONDS, open_storage

if TYPE_CHECKING:
    from filelock import BaseFileLock
    from optuna import Study
    from optuna.storages import BaseStorage, RDBStorage
    from optuna.trial import FrozenTrial, TrialState

logger = logging.getLogger(__name__)

_STUDY_LOCK = "study"

Propose = Callable[["Study", int], tuple[dict[str, Any], Mapping[str, Any]]]
"""What to try next: parameters and their distributions, given the study and the trial's number."""


@dataclass(frozen=True)
class Trials:
    """A search's trials, shared by all processes that work at it; opened in each."""

    name: str
    """Of the study."""
    folder: Path
    """Of the run: holds the locks of this machine's processes, and the journal."""
    storage: "BaseStorage"
    place: str
    """Stands for this machine and this folder: processes of one place see each other's locks."""

    @property
    def _beating(self) -> "RDBStorage | None":
        """The database, where it is one: it can tell how long ago a trial last gave a sign of life."""
        from optuna.storages import RDBStorage

        return self.storage if isinstance(self.storage, RDBStorage) else None

    def begin(self, direction: Literal["minimize", "maximize"], settings: dict[str, Any]) -> None:
        """Make the study, unless it is there already, with the settings that it keeps."""
        import optuna

        with hold_lock(self.folder, _STUDY_LOCK):
            study = optuna.create_study(
                storage=self.storage, study_name=self.name, direction=direction, load_if_exists=True
            )
            if "settings" not in study.user_attrs:
                study.set_user_attr("settings", settings)

    def settings(self) -> dict[str, Any] | None:
        """What the study was begun with; None where there is no study."""
        import optuna

        try:
            return self.study().user_attrs.get("settings")
        except (KeyError, optuna.exceptions.OptunaError):
            return None

    def study(self) -> "Study":
        """The study as it is now."""
        import optuna

        return optuna.load_study(study_name=self.name, storage=self.storage)

    def all(self) -> "list[FrozenTrial]":
        """Every trial, by number."""
        return self.storage.get_all_trials(self._study_id, deepcopy=False)

    @cached_property
    def _study_id(self) -> int:
        return self.storage.get_study_id_from_name(self.name)

    @contextmanager
    def claimed(self, total: int, propose: Propose) -> "Iterator[FrozenTrial | None]":
        """A trial to work at, for the block: one whose process died, else a new one; None where there is none.

        Raises:
            EnvironmentFailure: the folder may not be written.
        """
        with hold_lock(self.folder, _STUDY_LOCK):
            everything = self.all()
            found, lock = self._dead_trial(everything)
            if found is None and len(everything) < total:
                found = self._new_trial(propose, len(everything))
                lock = _try_lock(self.folder, found.number)
            if found is not None and self._beating is not None:
                self._beating.record_heartbeat(found._trial_id)
        try:
            if found is None:
                yield None
            else:
                with self._signs_of_life(found._trial_id):
                    yield found
        finally:
            if lock is not None:
                lock.release()

    def _dead_trial(self, everything: "Sequence[FrozenTrial]") -> "tuple[FrozenTrial | None, BaseFileLock | None]":
        """A trial that is said to run although nobody works at it, and the lock that says so to others."""
        from optuna.trial import TrialState

        running = [trial for trial in everything if trial.state == TrialState.RUNNING]
        silent = self._beating._get_stale_trial_ids(self._study_id) if self._beating and running else []
        for trial in running:
            here = self._beating is None or trial.user_attrs.get("place") == self.place
            if not here and trial._trial_id not in silent:
                continue
            lock = _try_lock(self.folder, trial.number)
            if lock is not None:
                logger.info("trial %d: its process ended before it was finished; going on with it", trial.number)
                return trial, lock
        return None, None

    def _new_trial(self, propose: Propose, number: int) -> "FrozenTrial":
        """A new trial with all of its parameters, stored at once: nobody ever sees half of them."""
        from optuna.trial import TrialState, create_trial

        parameters, distributions = propose(self.study(), number)
        template = create_trial(
            state=TrialState.RUNNING,
            params=parameters,
            distributions=dict(distributions),
            user_attrs={"place": self.place},
        )
        return self.storage.get_trial(self.storage.create_new_trial(self._study_id, template))

    @contextmanager
    def _signs_of_life(self, trial_id: int) -> Iterator[None]:
        """Tell the database, now and then, that the trial is worked at."""
        database, over = self._beating, threading.Event()
        if database is None:
            yield
            return

        def beat() -> None:
            while not over.wait(HEARTBEAT_SECONDS):
                try:
                    database.record_heartbeat(trial_id)
                except Exception as error:  # The trial goes on; whoever tells its end will see whether it is ours.
                    logger.warning("the database did not take a sign of life: %s", str(error).splitlines()[0])

        thread = threading.Thread(target=beat, daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def report(self, trial: "FrozenTrial", epoch: int, value: float) -> "FrozenTrial":
        """Tell what a trial has reached after an epoch; the trial with it."""
        self.storage.set_trial_intermediate_value(trial._trial_id, epoch, value)
        return self.storage.get_trial(trial._trial_id)

    def finish(
        self, trial: "FrozenTrial", state: "TrialState", value: float | None = None, **told: str | float
    ) -> None:
        """Tell what became of a trial; nothing where somebody else has told already."""
        from optuna.exceptions import UpdateFinishedTrialError

        try:
            for key, text in told.items():
                self.storage.set_trial_user_attr(trial._trial_id, key, text)
            self.storage.set_trial_state_values(trial._trial_id, state, None if value is None else [value])
        except UpdateFinishedTrialError:
            logger.warning("trial %d: another process has finished it meanwhile", trial.number)


def _try_lock(folder: Path, number: int) -> "BaseFileLock | None":
    """The lock of a trial, which the kernel frees with its process; None where a process has it."""
    from filelock import FileLock, Timeout

    path = folder / ".locks" / f"trial{number}"
    with explain_write_errors(path):
        lock = FileLock(path)
        try:
            lock.acquire(blocking=False)
        except Timeout:
            return None
    return lock


def open_trials(name: str, folder: Path, url: str | None) -> Trials:
    """The trials of a study, in the journal of a run's folder or in a database.

    Args:
        name: of the study.
        folder: of the run.
        url: of the database; None: the journal.

    Raises:
        UsageError: the URL means nothing.
        EnvironmentFailure: the database or its driver cannot be reached.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return Trials(name, folder, open_storage(folder, url), f"{platform.node()}:{_token(folder)}")


def _token(folder: Path) -> str:
    path = folder / ".locks" / "place"
    with hold_lock(folder, _STUDY_LOCK):
        if not path.exists():
            write_text(path, uuid.uuid4().hex)
        return path.read_text(encoding="utf-8")
