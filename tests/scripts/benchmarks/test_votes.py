"""The benchmark of votes in its short form: it runs, and its votes elect the same classes."""

import importlib.util
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[3] / "scripts" / "benchmarks" / "votes.py"


def test_a_small_vote_is_timed(capsys: pytest.CaptureFixture[str]) -> None:
    specification = importlib.util.spec_from_file_location("bench_votes", SCRIPT)
    assert specification is not None and specification.loader is not None
    bench = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(bench)
    assert bench.main(["--tables", "4", "--rows", "300", "--repeats", "1"]) == 0
    text = capsys.readouterr().out
    for row in ("soups, joint", "soups, split by factor", "1.00 of pandas merge"):
        assert row in text
    assert "the same class for 2" in text  # Nearly all of the 300 images have a clear majority.
