"""The text of an inspection: numbers, reasons and the verdict on the pool."""

from typing import Any

from soups.report.inspection import NUMBER_COLUMNS, format_inspection, format_verdict


def row(name: str, why: tuple[str, ...] = (), notes: tuple[str, ...] = (), **numbers: float) -> dict[str, Any]:
    return {"name": name, **dict.fromkeys(NUMBER_COLUMNS), **numbers, "why": list(why), "notes": list(notes)}


GOOD = row("a", val=0.925, distance=5.25, angle=40.2, midpoint=0.915, drop=0.014, drop_low=-0.006, drop_high=0.022)
BEST = row("best", val=0.934, distance=3.59, angle=48.0, notes=("it is 4 times as far away",))
ODD = row("odd", why=("its tensor 'w' holds NaN or infinity",))


def test_numbers_reasons_and_verdict() -> None:
    lines = format_inspection([GOOD, BEST, ODD]).splitlines()
    assert lines[0].split("  ")[0] == "model" and "drop, points [95%]" in lines[0]
    assert lines[2].split() == ["a", "92.5", "5.25", "40", "91.5", "+1.4", "[-0.6,", "+2.2]", "yes"]
    assert lines[3].split() == ["best", "93.4", "3.59", "48", "–", "–", "yes"]
    assert lines[4].split() == ["odd", "–", "–", "–", "–", "–", "no"]
    assert lines[5:7] == ["best: it is 4 times as far away", "odd: its tensor 'w' holds NaN or infinity"]
    assert lines[7] == "2 of 3 can be souped; leave out odd"


def test_verdicts() -> None:
    assert format_verdict([GOOD, BEST]) == "all 2 can be souped"
    assert format_verdict([GOOD]) == "there is only one model: nothing to soup"
    assert format_verdict([GOOD, ODD]) == "none of the 2 can be souped with another"
    assert format_verdict([ODD]) == "the only model cannot be souped"
