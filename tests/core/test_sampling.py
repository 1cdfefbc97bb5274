"""Evenly spaced indices."""

import pytest

from soups.core.sampling import evenly_spaced


@pytest.mark.parametrize(
    ("total", "count", "indices"),
    [
        (5, 3, [0, 2, 4]),
        (5, 9, [0, 1, 2, 3, 4]),
        (100, 4, [0, 33, 66, 99]),
        (4, 3, [0, 2, 3]),
        (7, 1, [0]),
        (1, 8, [0]),
    ],
)
def test_ends_are_included_and_no_index_is_repeated(total: int, count: int, indices: list[int]) -> None:
    assert evenly_spaced(total, count).tolist() == indices


def test_as_many_indices_as_requested() -> None:
    assert all(len(evenly_spaced(total, count)) == count for total in range(1, 60) for count in range(1, total + 1))
