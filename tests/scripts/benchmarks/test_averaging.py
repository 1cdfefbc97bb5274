"""The benchmark of souping on the toy run."""

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).parents[3] / "scripts" / "benchmarks" / "averaging.py"


def test_every_part_is_measured(
    toy_run_copy: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = importlib.util.spec_from_file_location("bench_averaging", SCRIPT)
    assert spec is not None and spec.loader is not None
    bench = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "bench_averaging", bench)  # Help texts are looked up there.
    spec.loader.exec_module(bench)
    arguments = ["--name", "toys", "--repeats", "1", "--checkpoints", "2", "--architecture", "timm:test_vit"]
    assert bench.main(arguments) == 0
    text = capsys.readouterr().out
    assert "same ingredients and bits: yes" in text
    assert "run toys: 3 models, 18 validation images" in text
    assert text.count("times full greedy") == 3
    assert "2 files of timm:test_vit" in text
    assert text.count("times cat") == 3
    assert text.count("times the first") == 3
    assert text.count("peak private memory") == 3
