"""Benchmark of hard voting over prediction tables, jointly and by factor, against a merge in plain pandas."""

import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from pydantic import BaseModel, ConfigDict, Field

from soups.cli import outcome
from soups.cli.flags import ParsedSettings

ROOT = Path(__file__).resolve().parents[2]
CLASSES = 18

BASELINE = "pandas merge"
MERGED = """
import sys
from functools import reduce
import pandas as pd
*paths, output = sys.argv[1:]
tables = [pd.read_csv(path).rename(columns={"ans": path}) for path in paths]
votes = reduce(lambda one, other: one.merge(other, on="ImageID"), tables).set_index("ImageID")
votes.mode(axis=1)[0].astype(int).rename("ans").reset_index().to_csv(output, index=False)
"""
"""Plain pandas: tables merged by id, and the most frequent class of each row."""


class BenchSettings(BaseModel):
    """Time hard voting over generated prediction tables, each command as a whole process.

    The rows of each table have an order of their own. The joint vote, the vote split by factors and a merge in plain
    pandas take turns. The joint vote and pandas must elect the same classes wherever the majority is clear.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    tables: int = Field(default=100, gt=0)
    """Number of tables."""
    rows: int = Field(default=100_000, gt=0)
    """Images per table."""
    repeats: int = Field(default=3, gt=0)
    """Number of turns."""


def main(argv: list[str] | None = None) -> int:
    """Parse, measure, and return the exit code."""
    return outcome.run(BenchSettings, command, argv)


def command(parsed: ParsedSettings[BenchSettings]) -> None:
    """Measure and print."""
    settings = parsed.settings
    with tempfile.TemporaryDirectory() as folder:
        paths = write_tables(Path(folder), settings)
        ours = [sys.executable, str(ROOT / "inference.py"), "--layout", "profile", "--hard-voting", *map(str, paths)]
        rows = {
            "soups, joint": [*ours, "--output", f"{folder}/joint.csv"],
            "soups, split by factor": [*ours, "--split", "--output", f"{folder}/split.csv"],
            BASELINE: [sys.executable, "-c", MERGED, *map(str, paths), f"{folder}/merged.csv"],
        }
        seconds: dict[str, list[float]] = {name: [] for name in rows}
        for _ in range(settings.repeats):
            for name, command in rows.items():
                seconds[name].append(time_process(command, Path(folder)))
        same = count_clear_majorities(paths, Path(folder))
    print(f"{settings.tables} tables of {settings.rows:,} rows, {settings.repeats} turns; whole processes, seconds")
    for name, values in seconds.items():
        ratios = [own / other for own, other in zip(values, seconds[BASELINE], strict=True)]
        times = f"{median(ratios):.2f} of {BASELINE} ({min(ratios):.2f}–{max(ratios):.2f})"
        print(f"{name:24} {median(values):8.2f}  ({min(values):.2f}–{max(values):.2f})  {times}")
    print(f"the same class for {same} images, which are all whose majority is clear")


def write_tables(folder: Path, settings: BenchSettings) -> list[Path]:
    """Write tables in which each vote is right with a probability of 0.4 to 0.9; each has its own order of rows."""
    import numpy as np
    import pandas as pd

    rng = np.random.default_rng(0)
    ids = np.array([f"{rng.bytes(20).hex()}.jpg" for _ in range(settings.rows)])
    truth = rng.integers(0, CLASSES, settings.rows)
    paths = []
    for number in range(settings.tables):
        right = rng.random(settings.rows) < rng.uniform(0.4, 0.9)
        answers = np.where(right, truth, rng.integers(0, CLASSES, settings.rows))
        paths.append(folder / f"table{number:03}.csv")
        order = rng.permutation(settings.rows)
        pd.DataFrame({"ImageID": ids[order], "ans": answers[order]}).to_csv(paths[-1], index=False)
    return paths


def time_process(command: list[str], folder: Path) -> float:
    """Return the seconds of a whole process."""
    started = time.perf_counter()
    subprocess.run(command, check=True, cwd=folder, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


def count_clear_majorities(paths: list[Path], folder: Path) -> int:
    """Return the number of images with a clear majority, which both votes must have elected.

    Raises:
        SystemExit: The votes differ.
    """
    import numpy as np
    import pandas as pd

    tables = [pd.read_csv(path).set_index("ImageID")["ans"] for path in paths]
    codes = np.stack([table[tables[0].index].to_numpy() for table in tables])
    counts = np.stack([(codes == code).sum(axis=0) for code in range(CLASSES)])
    ordered = np.sort(counts, axis=0)
    clear = ordered[-1] > ordered[-2]
    for name in ("joint.csv", "merged.csv"):
        elected = pd.read_csv(folder / name).set_index("ImageID")["ans"][tables[0].index].to_numpy()
        if not (elected == counts.argmax(axis=0))[clear].all():
            raise SystemExit(f"{name}: not the majority")
    return int(clear.sum())


if __name__ == "__main__":
    raise SystemExit(main())
