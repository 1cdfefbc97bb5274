"""Tasks in this process and in worker processes that raise, exit or die."""

import os
import time
import traceback
from pathlib import Path

from soups.core.errors import DataError, EnvironmentFailure
from soups.runtime.workers import run_all, worker_number


class _Stubborn(Exception):
    def __init__(self, one: int, two: int) -> None:
        super().__init__(f"{one} and {two}")


def _half(number: int) -> tuple[int, float]:
    if number == 3:
        raise DataError("three: no half", expected="another number")
    if number == 6:
        raise PermissionError(13, "Permission denied", "models/.x.lock")
    if number == 4:
        os._exit(9)
    if number == 7:
        raise _Stubborn(7, 8)
    if number == 8:
        raise KeyError("eight")
    return os.getpid(), number / 2


def _number(task: tuple[int, Path]) -> int | None:
    """Item 0 waits until six others are done."""
    item, folder = task
    until = time.monotonic() + 600
    while item == 0 and len(list(folder.iterdir())) < 6 and time.monotonic() < until:
        time.sleep(0.01)
    (folder / str(item)).touch()
    return worker_number()


def test_one_job_runs_in_this_process() -> None:
    results = list(run_all(_half, [1, 2, 3, 6], jobs=1))
    assert [item for item, _ in results] == [1, 2, 3, 6]
    assert str(results[3][1]).startswith("models/.x.lock: no permission to write")
    assert results[1][1] == (os.getpid(), 1.0)
    assert isinstance(results[2][1], DataError)


def test_failures_in_worker_processes_do_not_stop_other_items() -> None:
    items = [1, 4, 2, 3, 4, 7, 8, 5]
    found = list(run_all(_half, items, jobs=2))
    assert sorted(item for item, _ in found) == sorted(items)
    results = dict(found)
    assert isinstance(results[4], EnvironmentFailure)
    assert "fewer --jobs" in str(results[4])
    assert str(results[3]) == "three: no half\n  expected: another number"
    assert results[5][1] == 2.5  # type: ignore[index]
    assert os.getpid() not in {value[0] for value in results.values() if isinstance(value, tuple)}
    # Exceptions that cannot be pickled are converted, and all keep their traceback.
    assert type(results[7]) is RuntimeError and str(results[7]) == "_Stubborn: 7 and 8"
    assert type(results[8]) is KeyError
    assert "in _half" in "".join(traceback.format_exception(results[8]))


def test_workers_have_numbers_and_share_the_items(tmp_path: Path) -> None:
    assert worker_number() is None
    assert [number for _, number in run_all(_number, [(1, tmp_path)], jobs=2)] == [None]
    (tmp_path / "1").unlink()
    numbers = {item: number for (item, _), number in run_all(_number, [(n, tmp_path) for n in range(7)], jobs=2)}
    assert numbers == {0: 0, **dict.fromkeys(range(1, 7), 1)}
