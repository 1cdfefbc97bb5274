"""Tables of the simulation: how often a rule takes a worse model, and its mean gain, by kind of pool and size."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from soups.core.statistics import bootstrap_interval
from soups.report.tables import markdown_table

HARM = -0.01
"""Gain in accuracy below which the model taken is worse than the best single model: by more than one point."""
SEVERE = -0.05
"""The same by more than five points."""


@dataclass(frozen=True)
class PoolScores:
    """Accuracies of a pool on all test images, in [0, 1]."""

    name: str
    """`<kind>-<number>`."""
    singles: tuple[float, ...]
    """Of its fine-tunes."""
    uniform: float
    """Of the mean of all."""


COLUMNS = ("pool", "images", "draw", "rule", "taken", "gain", "log_loss", "raw_log_loss")
"""Columns of the draws: the pool, validation images, number of the draw, rule, subset, and differences to the best
single model on the other test images: accuracy, log-loss after a temperature fitted on validation, and without."""


def summarize(draws: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """Return one row for each value of `by` with shares, mean gains and their uncertainty.

    Args:
        draws: with `COLUMNS` and those of `by`.
        by: columns; draws that agree in all of them are summarised.

    Returns:
        The columns of `by`, the numbers of `pools` and `draws`; `harm`, the share of draws with a gain below `HARM`,
        with its 95% interval; `severe`, the share below `SEVERE`; `soups`, the share that takes a soup; mean `gain` in
        points, `log_loss` and `raw_log_loss` in nats, with standard errors. Interval and errors are over pools where
        there are several, else over the draws of the pool.
    """
    rows = []
    for key, group in draws.groupby(list(by), sort=False):
        pools = group["pool"].to_numpy()
        several = len(set(pools)) > 1
        harmed = (group["gain"].to_numpy() < HARM).astype(float)
        low, high = bootstrap_interval(harmed, pools) if several else _wilson(harmed)
        row = dict(zip(by, key, strict=True)) | {"pools": len(set(pools)), "draws": len(group)}
        row |= {"harm": harmed.mean(), "harm_low": low, "harm_high": high}
        row |= {"severe": (group["gain"] < SEVERE).mean(), "soups": (group["taken"].map(int.bit_count) > 1).mean()}
        for name, factor in (("gain", 100), ("log_loss", 1), ("raw_log_loss", 1)):
            values = factor * group[name]
            units = values.groupby(pools).mean() if several else values
            row |= {name: values.mean(), f"{name}_error": units.std(ddof=1) / np.sqrt(len(units))}
        rows.append(row)
    return pd.DataFrame(rows)


def _wilson(outcomes: np.ndarray) -> tuple[float, float]:
    from scipy.stats import binomtest

    interval = binomtest(int(outcomes.sum()), len(outcomes)).proportion_ci(method="wilson")
    return float(interval.low), float(interval.high)


def _percent(row: pd.Series) -> str:
    return f"{100 * row['harm']:.1f} [{100 * row['harm_low']:.0f}, {100 * row['harm_high']:.0f}]"


CELLS: dict[str, Callable[[pd.Series], str]] = {
    "share of draws (%) that take something worse by more than a point [95%]": _percent,
    "share of draws (%) that take a soup; in brackets, something worse by more than five points": lambda row: (
        f"{100 * row['soups']:.0f} ({100 * row['severe']:.1f})"
    ),
    "mean gain in accuracy, points ± standard error": lambda row: f"{row['gain']:+.2f} ± {row['gain_error']:.2f}",
    "mean gain in log-loss, nats ± standard error": lambda row: f"{row['log_loss']:+.3f} ± {row['log_loss_error']:.3f}",
}
"""Title of a table over all pools → its cell."""


def format_tables(draws: pd.DataFrame, kinds: dict[str, str]) -> str:
    """Return the tables as Markdown: each of `CELLS` over all pools, then share and gain for each kind of pool.

    Args:
        draws: with `COLUMNS`, of pools `<kind>-<number>`.
        kinds: kind → its description.
    """
    overall = summarize(draws, ("rule", "images"))
    parts = [_table(title, overall, cell) for title, cell in CELLS.items()]
    of_kind = draws["pool"].str.rsplit("-", n=1).str[0]
    for kind, description in kinds.items():
        rows = summarize(draws[of_kind == kind], ("rule", "images"))
        parts.append(
            _table(f"{kind}: {description}", rows, lambda row: f"{100 * row['harm']:.1f} ({row['gain']:+.2f})")
        )
    return "\n\n".join(parts)


def _table(title: str, summary: pd.DataFrame, cell: Callable[[pd.Series], str]) -> str:
    sizes = sorted(set(summary["images"]))
    cells = [[title, *map(str, sizes)]]
    for rule, rows in summary.groupby("rule", sort=False):
        of_size = rows.set_index("images")
        cells.append([str(rule), *(cell(of_size.loc[size]) for size in sizes)])
    return markdown_table(cells)


def format_pools(scores: Sequence[PoolScores], kinds: dict[str, str]) -> str:
    """Return the table of the kinds of pools: accuracies of their fine-tunes and uniform soups, in per cent."""
    cells = [["kind", "fine-tunes of a pool", "accuracy %, of each pool", "uniform soup %, of each pool"]]
    for kind, description in kinds.items():
        own = [pool for pool in scores if pool.name.rsplit("-", 1)[0] == kind]
        ranges = ", ".join(f"{100 * min(pool.singles):.1f}–{100 * max(pool.singles):.1f}" for pool in own)
        cells.append([kind, description, ranges, ", ".join(f"{100 * pool.uniform:.1f}" for pool in own)])
    return markdown_table(cells)
