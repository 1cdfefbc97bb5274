"""The benchmark of overheads in its short form: each part has a ratio with a named baseline; no number is checked."""

import re
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[3] / "scripts" / "benchmarks" / "overheads.py"


def test_each_part_has_a_ratio_and_a_baseline() -> None:
    done = subprocess.run([sys.executable, str(SCRIPT), "--short"], capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    form = re.compile(r"[^/]+ / [^/]+: \d+\.\d\d \(\d+\.\d\d to \d+\.\d\d\); \d+\.\d{4} s")
    assert [line for line in lines if not form.fullmatch(line)] == []
    for part in (
        "training loader, 204 images, crop /",
        "RandAugment",
        "bootstrap",
        "split of",
        "selecting",
        "opening",
        "block before",
    ):
        assert any(part in line for line in lines), part
    assert lines[-1].startswith("building an empty RN50 / open_clip.create_model without weights: ")
