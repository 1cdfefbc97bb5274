"""The pooled table: gains equal those computed by hand; its text is as expected."""

from typing import Any

import pytest

from soups.core.errors import DataError
from soups.core.statistics import paired_gain
from soups.report.study import format_study, markdown_study, pool_splits

RESULTS = {
    "best single": [(0.90, 0.70, 0.30), (0.92, 0.71, 0.28), (0.91, 0.69, 0.33)],
    "soup": [(0.93, 0.72, 0.25), (0.92, 0.75, 0.24), (0.92, 0.73, 0.26)],
    "hard|vote": [(0.91, 0.70, None), (0.93, 0.71, None), (0.92, 0.69, None)],
}


def row(name: str, values: tuple[float | None, ...]) -> dict[str, Any]:
    return dict(zip(("name", "test", "shift", "test_log_loss"), (name, *values), strict=True))


SPLITS = [[row(name, results[number]) for name, results in RESULTS.items()] for number in range(3)]


def test_gains_are_over_the_best_single_model_of_the_same_split() -> None:
    best, soup, vote = pool_splits(SPLITS)
    assert best["test"] == pytest.approx(0.91) and best["splits"] == 3
    assert best["test_gain"] is best["shift_p"] is None
    for key, differences in (
        ("test", [0.03, 0.0, 0.01]),
        ("shift", [0.02, 0.04, 0.04]),
        ("test_log_loss", [-0.05, -0.04, -0.07]),
    ):
        gain = paired_gain(differences)
        found = [soup[f"{key}_{what}"] for what in ("gain", "gain_low", "gain_high", "p")]
        assert found == pytest.approx([gain.mean, gain.low, gain.high, gain.p])
    assert vote["test_gain"] == pytest.approx(0.01) and vote["test_log_loss"] is vote["test_log_loss_p"] is None
    assert (vote["shift_gain"], vote["shift_p"]) == (0.0, 1.0)


def test_entries_missing_in_a_split_are_not_pooled() -> None:
    without = [SPLITS[0], SPLITS[1][:2], SPLITS[2]]
    assert [one["name"] for one in pool_splits(without)] == ["best single", "soup"]
    no_shift = [[one | {"shift": None} for one in rows] for rows in SPLITS]
    assert pool_splits(no_shift)[1]["shift"] is pool_splits(no_shift)[1]["shift_gain"] is None
    for nothing in ([], [SPLITS[0], []]):
        with pytest.raises(DataError, match="nothing to pool"):
            pool_splits(nothing)


def test_text_and_markdown() -> None:
    rows = pool_splits(SPLITS)
    lines = format_study(rows).splitlines()
    assert lines[0].split("  ")[0] == "" and lines[0].split()[:2] == ["test", "%"]
    cells = lines[3].split()
    assert cells[:2] == ["soup", "92.3"] and cells[2] == "+1.3" and cells[3] == "[-2.5,"
    assert "-0.053 [-0.091, -0.015]" in lines[3]
    assert lines[4].split()[-3:] == ["–", "–", "–"]
    assert lines[5].startswith("mean of 3 splits") and "n = 3" in lines[6]
    assert max(map(len, lines[:5])) <= 150
    table = markdown_study(rows).splitlines()
    assert table[4].startswith(r"| hard\|vote | 92.0 | +1.0 [+1.0, +1.0] |") and table[-1].startswith("- p: two-sided")


def test_one_split_has_gains_without_intervals() -> None:
    soup = format_study(pool_splits(SPLITS[:1])).splitlines()[3]
    assert soup.split() == ["soup", "93.0", "+3.0", "–", "72.0", "+2.0", "–", "0.250", "-0.050", "–"]
