"""The trials of a search: creating, claiming, reporting and finishing them, in a journal or a database."""

import logging
import platform
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from soups.core.errors import AlreadyInProgress
from soups.files.atomic import hold_lock, write_text
from soups.pipeline.search.storage import open_storage

if TYPE_CHECKING:
    from optuna import Study
    from optuna.storages import BaseStorage
    from optuna.trial import FrozenTrial, TrialState

logger = logging.getLogger(__name__)

_STUDY_LOCK = "study"

Propose = Callable[["Study", int], tuple[dict[str, Any], Mapping[str, Any]]]
"""Returns parameters and distributions of the next trial, given the study and the trial's number."""


@dataclass(frozen=True)
class Trials:
    """The trials of a search, shared by all its processes; each process opens its own object."""

    name: str
    """Name of the study."""
    folder: Path
    """The run's folder, with the journal and the locks of this machine's processes."""
    storage: "BaseStorage"
    place: str
    """Identifies this machine and folder: processes with the same place see each other's locks."""

    def create_study(self, direction: Literal["minimize", "maximize"], settings: dict[str, Any]) -> dict[str, Any]:
        """Create the study with these settings, unless it exists; returns the recorded settings."""
        import optuna

        with hold_lock(self.folder, _STUDY_LOCK):
            study = optuna.create_study(
                storage=self.storage, study_name=self.name, direction=direction, load_if_exists=True
            )
            if "settings" not in study.user_attrs:
                study.set_user_attr("settings", settings)
        # Read again: another machine may have recorded other ones at the same moment.
        return self.study().user_attrs["settings"]

    def recorded_settings(self) -> dict[str, Any] | None:
        """Return the settings recorded when the study was created; None if there is no study."""
        import optuna

        try:
            return self.study().user_attrs.get("settings")
        except (KeyError, optuna.exceptions.OptunaError):
            return None

    def study(self) -> "Study":
        """Load the present state of the study."""
        import optuna

        return optuna.load_study(study_name=self.name, storage=self.storage)

    def all(self) -> "list[FrozenTrial]":
        """Return every trial, ordered by number."""
        return self.storage.get_all_trials(self._study_id, deepcopy=False)

    @cached_property
    def _study_id(self) -> int:
        return self.storage.get_study_id_from_name(self.name)

    @contextmanager
    def claim(self, total: int, propose: Propose) -> "Iterator[FrozenTrial | None]":
        """Claim a trial for the block: one whose process died, else a new one; None if none is left.

        Raises:
            EnvironmentFailure: The folder is not writable.
        """
        from optuna.storages import RDBStorage
        from optuna.storages._heartbeat import get_heartbeat_thread

        with ExitStack() as held:  # The lock of the trial and, in a database, its heartbeats.
            with hold_lock(self.folder, _STUDY_LOCK):
                all_trials = self.all()
                trial = self._take_over_abandoned(all_trials, held)
                if trial is None and len(all_trials) < total:
                    trial = self._create_trial(propose, len(all_trials))
                    self._acquire_lock(trial.number, held)
                if trial is not None:
                    if isinstance(self.storage, RDBStorage):  # At once: one without any heartbeat is never taken over.
                        self.storage.record_heartbeat(trial._trial_id)
                    # Optuna gives its `__exit__` narrower types than Python's.
                    held.enter_context(get_heartbeat_thread(trial._trial_id, self.storage))  # type: ignore[arg-type]
            yield trial

    def _take_over_abandoned(self, all_trials: "Sequence[FrozenTrial]", held: ExitStack) -> "FrozenTrial | None":
        """Return a running trial whose process died, with its lock acquired; None if there is none."""
        from optuna.storages import RDBStorage
        from optuna.trial import TrialState

        running = [trial for trial in all_trials if trial.state == TrialState.RUNNING]
        database = self.storage if isinstance(self.storage, RDBStorage) else None  # A journal has no heartbeats.
        silent = database._get_stale_trial_ids(self._study_id) if database and running else []
        for trial in running:
            here = database is None or trial.user_attrs.get("place") == self.place
            if (here or trial._trial_id in silent) and self._acquire_lock(trial.number, held):
                logger.info("trial %d: its process ended before it was finished; resuming it", trial.number)
                return trial
        return None

    def _acquire_lock(self, number: int, held: ExitStack) -> bool:
        """Acquire the lock of a trial, which the kernel releases with its process; False if another one holds it."""
        try:
            held.enter_context(hold_lock(self.folder, f"trial{number}", wait=False))
        except AlreadyInProgress:
            return False
        return True

    def _create_trial(self, propose: Propose, number: int) -> "FrozenTrial":
        """Create a trial with all its parameters in one write, so that no process sees a part of them."""
        from optuna.trial import TrialState, create_trial

        parameters, distributions = propose(self.study(), number)
        attributes = {"place": self.place}
        template = create_trial(
            state=TrialState.RUNNING, params=parameters, distributions=dict(distributions), user_attrs=attributes
        )
        return self.storage.get_trial(self.storage.create_new_trial(self._study_id, template))

    def report(self, trial: "FrozenTrial", epoch: int, value: float) -> "FrozenTrial":
        """Record a value after an epoch; returns the updated trial."""
        self.storage.set_trial_intermediate_value(trial._trial_id, epoch, value)
        return self.storage.get_trial(trial._trial_id)

    def finish(
        self, trial: "FrozenTrial", state: "TrialState", value: float | None = None, **attributes: str | float
    ) -> None:
        """Record the outcome of a trial, unless another process has finished it."""
        from optuna.exceptions import UpdateFinishedTrialError

        try:
            for key, text in attributes.items():
                self.storage.set_trial_user_attr(trial._trial_id, key, text)
            self.storage.set_trial_state_values(trial._trial_id, state, None if value is None else [value])
        except UpdateFinishedTrialError:
            logger.warning("trial %d: another process has already finished it", trial.number)


def open_trials(name: str, folder: Path, url: str | None) -> Trials:
    """Open the trials of a study, in the journal of a run's folder or in a database.

    Args:
        name: the study's name.
        folder: the run's folder.
        url: URL of the database; None for the journal.

    Raises:
        UsageError: The URL is invalid.
        EnvironmentFailure: The database is unreachable or its driver is not installed.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    token = folder / ".locks" / "place"
    with hold_lock(folder, _STUDY_LOCK):
        if not token.exists():
            write_text(token, uuid.uuid4().hex)
        place = f"{platform.node()}:{token.read_text(encoding='utf-8')}"
    return Trials(name, folder, open_storage(folder, url), place)
