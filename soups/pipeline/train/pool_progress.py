"""Progress of a pool that several processes train, counted from the logs of its fine-tunes."""

import json
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path

from soups.core.progress import follow
from soups.files.atomic import fingerprint
from soups.pipeline.train.plan import Task


class PoolProgress:
    """How many epochs of several fine-tunes are done."""

    def __init__(self, tasks: Sequence[Task]) -> None:
        self._tasks = tasks
        self._finished = set[int]()
        self._logs = [task.open_run().training_log(task.index) for task in tasks]

    @property
    def epochs(self) -> int:
        """The epochs of all fine-tunes."""
        return sum(task.epochs for task in self._tasks)

    @property
    def is_live(self) -> bool:
        """Whether one line on a terminal shows the progress of several processes."""
        return len(self._tasks) > 1 and self._tasks[0].runtime.jobs > 1 and sys.stderr.isatty()

    def finish(self, task: Task) -> None:
        """Count all epochs of a fine-tune as done: it is finished, or it failed."""
        self._finished |= {number for number, each in enumerate(self._tasks) if each.name == task.name}

    def count_done(self) -> int:
        """Returns the epochs that are done."""
        return sum(
            task.epochs if number in self._finished else _logged_epochs(self._logs[number], fingerprint(task.record))
            for number, task in enumerate(self._tasks)
        )

    def follow(self) -> AbstractContextManager[None]:
        """Returns a context that reports the progress; a single process on a terminal reports its own."""
        if len(self._tasks) == 1 or (sys.stderr.isatty() and not self.is_live):
            return nullcontext()
        return follow(self.count_done, self.epochs, f"{len(self._tasks)} fine-tunes", "epochs")


def _logged_epochs(log: Path, settings: str) -> int:
    """Returns the last epoch in a log, without a line that is being written."""
    with suppress(OSError, ValueError):
        lines = [json.loads(line) for line in log.read_bytes().split(b"\n")[:-1]]
        return max((line["epoch"] for line in lines if line.get("settings") == settings), default=0)
    return 0
