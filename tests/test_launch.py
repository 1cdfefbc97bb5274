import os

import pytest

from soups.errors import DataError, EnvironmentFailure
from soups.launch import run_all


def _half(number: int) -> tuple[int, float]:
    if number == 3:
        raise DataError("three: no half", expected="another number")
    if number == 6:
        raise PermissionError(13, "Permission denied", "models/.x.lock")
    if number == 4:
        os._exit(9)
    return os.getpid(), number / 2


def test_one_after_the_other_in_this_process() -> None:
    results = list(run_all(_half, [1, 2, 3, 6], jobs=1))
    assert [item for item, _ in results] == [1, 2, 3, 6]
    assert str(results[3][1]).startswith("models/.x.lock: no permission to write")
    assert results[1][1] == (os.getpid(), 1.0)
    assert isinstance(results[2][1], DataError)


@pytest.mark.parametrize("items", [[1, 2, 3, 5], [1, 4]])
def test_side_by_side_in_other_processes(items: list[int]) -> None:
    results = dict(run_all(_half, items, jobs=2))
    assert set(results) == set(items)
    if 4 in items:
        assert isinstance(results[4], EnvironmentFailure)
        assert "fewer --jobs" in str(results[4])
    else:
        assert str(results[3]) == "three: no half\n  expected: another number"
        assert results[5][1] == 2.5
        assert os.getpid() not in {value[0] for value in results.values() if isinstance(value, tuple)}
