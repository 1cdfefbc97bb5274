"""The benchmarks go on working under their former names in scripts/."""

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[3] / "scripts"
FORMER = {
    "bench": "training",
    "bench_curate": "curate",
    "bench_device": "device",
    "bench_pool": "pool",
    "bench_soups": "averaging",
    "bench_state": "state",
    "bench_votes": "votes",
}


def test_every_former_name_is_listed() -> None:
    assert {path.stem for path in SCRIPTS.glob("bench*.py")} == set(FORMER)
    assert {path.stem for path in (SCRIPTS / "benchmarks").glob("*.py")} >= set(FORMER.values())


@pytest.mark.parametrize("former", FORMER)
def test_a_former_name_has_the_flags_of_the_new_one(former: str, tmp_path: Path) -> None:
    texts = []
    for path in (SCRIPTS / f"{former}.py", SCRIPTS / "benchmarks" / f"{FORMER[former]}.py"):
        done = subprocess.run([sys.executable, str(path), "--help"], cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        texts.append(done.stdout)
    assert texts[0] == texts[1] and f"usage: python {FORMER[former]}.py" in texts[0]
