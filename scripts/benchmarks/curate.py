"""Benchmark of selecting from a pool's features against a loop over the pool's images."""

import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, TypeVar

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from pydantic import BaseModel, ConfigDict, Field

from soups.cli import outcome
from soups.cli.flags import ParsedSettings

if TYPE_CHECKING:
    import numpy as np

Result = TypeVar("Result")


class BenchSettings(BaseModel):
    """Median times of selecting from random features, and of the plain loop on a part of the pool."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    pool: int = Field(default=20_000, gt=0)
    """Images of the pool."""
    target: int = Field(default=5_000, gt=0)
    """Images of the target set."""
    features: int = Field(default=512, gt=0)
    """Dimension of an image's features."""
    count: int = Field(default=2_000, gt=0)
    """Images to select."""
    repeats: int = Field(default=5, gt=0)
    """Measurements of each; the median counts."""
    threads: int = Field(default=2, gt=0)
    """Threads of the matrix products."""


def main(argv: Sequence[str] | None = None) -> int:
    """Parse, measure, and return the exit code."""
    return outcome.run(BenchSettings, bench, argv)


def bench(parsed: ParsedSettings[BenchSettings]) -> None:
    """Print the times; both selections must be equal."""
    import numpy as np
    from threadpoolctl import threadpool_limits

    from soups.data.curate import select_similar

    settings = parsed.settings
    generator = np.random.default_rng(0)
    # Features around common directions, like those of real images.
    centres = generator.normal(size=(50, settings.features))
    pool, target = (
        _unit(centres[generator.integers(0, 50, rows)] + generator.normal(size=(rows, settings.features)))
        for rows in (settings.pool, settings.target)
    )
    count, duplicate = min(settings.count, settings.pool), 0.9
    with threadpool_limits(settings.threads):
        seconds, picked = time_median(lambda: select_similar(pool, target, target, count, duplicate), settings.repeats)
        print(f"{settings.pool:,} × {settings.target:,} features of {settings.features}, {count:,} picked:")
        print(f"  soups, blocks of the pool     {seconds:8.3f} s, median of {settings.repeats}")
        loop, slow = time_median(lambda: select_in_loops(pool, target, count, duplicate), 1)
    print(f"  one pool image after the other {loop:7.3f} s (× {loop / seconds:.1f}), measured once")
    same = len(set(picked.rows.tolist()) & set(slow))
    print(f"  the same {same:,} of {len(picked.rows):,} images")


def select_in_loops(pool: "np.ndarray", target: "np.ndarray", count: int, duplicate: float) -> list[int]:
    """Select with a loop over the pool and a loop over the candidates."""
    import numpy as np

    order = np.argsort([-round(float((target @ row).max()), 5) for row in pool], kind="stable")
    rows: list[int] = []
    for row in order:
        if len(rows) == count:
            break
        others = (target, pool[rows]) if rows else (target,)
        if all((other @ pool[row]).max() < duplicate for other in others):
            rows.append(int(row))
    return rows


def time_median(work: Callable[[], Result], repeats: int) -> tuple[float, Result]:
    """Return the median seconds and the result."""
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        result = work()
        times.append(time.perf_counter() - started)
    return median(times), result


def _unit(features: "np.ndarray") -> "np.ndarray":
    import numpy as np

    return (features / np.linalg.norm(features, axis=1, keepdims=True)).astype(np.float32)


if __name__ == "__main__":
    raise SystemExit(main())
