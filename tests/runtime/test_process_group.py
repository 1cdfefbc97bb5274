"""Operations of a process group: alone, and with the values that other processes would send."""

import numpy as np
import pytest

from soups.runtime.process_group import SINGLE_PROCESS, ProcessGroup, join_group


def test_a_group_of_one_returns_its_own_values() -> None:
    assert SINGLE_PROCESS.is_main
    assert SINGLE_PROCESS.sum(0.1) == 0.1
    assert SINGLE_PROCESS.any(True, False) == (True, False)
    assert SINGLE_PROCESS.broadcast("value") == "value" and SINGLE_PROCESS.gather("value") == ["value"]
    rows = np.arange(6.0).reshape(3, 2)
    assert np.array_equal(SINGLE_PROCESS.gather_rows(rows, 3), rows)


@pytest.mark.parametrize("count", [0, 1, 5, 7])
@pytest.mark.parametrize("size", [2, 3])
def test_gathered_rows_are_in_their_original_order(count: int, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = np.arange(2.0 * count).reshape(count, 2)
    parts = [rows[ProcessGroup(rank, size).shard(count)] for rank in range(size)]
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
    # A rank without enough samples pads its last batch: further rows are ignored.
    padded = [np.vstack([part, np.full((2, 2), -1.0)]) for part in parts]
    monkeypatch.setattr(ProcessGroup, "gather", lambda self, value: padded)
    assert np.array_equal(ProcessGroup(0, size).gather_rows(padded[0], count), rows)


def test_a_process_without_launcher_joins_a_group_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    with join_group("cpu") as group:
        assert group is SINGLE_PROCESS
    for name in ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.setenv(name, "0")
    monkeypatch.setenv("WORLD_SIZE", "1")
    with join_group("cpu") as group:
        assert group is SINGLE_PROCESS
