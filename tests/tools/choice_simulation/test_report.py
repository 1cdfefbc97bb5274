"""Shares, gains and their uncertainty from draws whose numbers are known."""

import numpy as np
import pandas as pd
import pytest

from tools.choice_simulation.report import COLUMNS, PoolScores, format_pools, format_tables, summarize


def draws(pools: dict[str, list[float]]) -> pd.DataFrame:
    rows = [
        (pool, 50, number, "uniform", 7, gain, -gain, 2 * gain)
        for pool, gains in pools.items()
        for number, gain in enumerate(gains)
    ]
    return pd.DataFrame(rows, columns=COLUMNS)


def test_a_loss_of_more_than_a_point_counts_as_harm() -> None:
    row = summarize(draws({"a-0": [-0.0101, -0.01, 0.02, 0.03]}), ("rule", "images")).iloc[0]
    assert (row["pools"], row["draws"], row["harm"], row["severe"], row["soups"]) == (1, 4, 0.25, 0, 1)
    gains = np.array([-1.01, -1, 2, 3])
    assert row["gain"] == pytest.approx(gains.mean()) and row["gain_error"] == pytest.approx(gains.std(ddof=1) / 2)
    low, high = 0.0456, 0.6994  # Wilson 1927, for one of four.
    assert (row["harm_low"], row["harm_high"]) == pytest.approx((low, high), abs=1e-4)


def test_errors_of_several_pools_are_over_pools() -> None:
    row = summarize(draws({"a-0": [0.01] * 50, "a-1": [-0.03] * 50}), ("rule", "images")).iloc[0]
    assert (row["pools"], row["harm"], row["harm_low"], row["harm_high"]) == (2, 0.5, 0, 1)
    assert row["gain"] == pytest.approx(-1) and row["gain_error"] == pytest.approx(2)
    assert row["log_loss"] == pytest.approx(0.01) and row["raw_log_loss"] == pytest.approx(-0.02)


def test_tables_name_kinds_rules_and_sizes() -> None:
    text = format_tables(draws({"a-0": [0.01, 0.02], "b-0": [-0.03, -0.02]}), {"a": "good ones", "b": "bad ones"})
    assert "| uniform | 50.0 [0, 100] |" in text and "| uniform | -0.50 ± 2.00 |" in text
    assert "| a: good ones | 50 |" in text and "| uniform | 0.0 (+1.50) |" in text
    assert "| uniform | 100.0 (-2.50) |" in text
    pools = format_pools([PoolScores("a-0", (0.5, 0.6), 0.55), PoolScores("a-1", (0.4,), 0.4)], {"a": "good ones"})
    assert pools.endswith("| a | good ones | 50.0–60.0, 40.0–40.0 | 55.0, 40.0 |")
