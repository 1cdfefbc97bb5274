"""Runs scripts/benchmarks/state.py under its former name."""

import runpy
from pathlib import Path

runpy.run_path(str(Path(__file__).parent / "benchmarks" / "state.py"), run_name="__main__")
