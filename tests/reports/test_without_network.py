"""The commands from data to report in a network namespace without interfaces."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.second_tier

CODE = """
import sys
from pathlib import Path
from tools.tried_cases.case import TINY, Case, draw_classes, run_case, run_here

def make(folder):
    draw_classes(folder / "data" / "train", ("cat", "dog"), 20)
    draw_classes(folder / "data" / "test", ("cat", "dog"), 5, start=100)

commands = (
    "finetune --name cut --data-location data {TINY} --i 0-2 --jobs 2",
    "main --eval-individual-models --uniform-soup --greedy-soup --soup learned --report --learning-curves",
    "inference --soft-voting --probabilities",
    "validation",
    "explain --model-name cut_greedy_soup",
    "find-label-errors --name cut",
    "export --format torch",
    "search --name tried --data-location data --trials 1 --epochs 1 --model baseline --image-size 32 --threads 1",
)
folder = Path(sys.argv[1])
outcome = run_case(Case("no network", make, commands), folder)
print(outcome.texts[-1])
assert outcome.exit_codes == [0] * len(commands), outcome.exit_codes
code, text = run_here("finetune", ["--name", "hub", "--data-location", "data", "--model", "ViT-B/32"], folder)
print(text)
assert code == 4 and "could not fetch the weights of ViT-B" in text, code
"""


def test_the_pipeline_works_without_a_network(tmp_path: Path) -> None:
    isolated = ["unshare", "--map-root-user", "--net"]
    if shutil.which("unshare") is None or subprocess.run([*isolated, "true"], capture_output=True).returncode:
        pytest.skip("this system makes no network namespaces")
    command = [*isolated, sys.executable, "-c", CODE, str(tmp_path)]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert not (tmp_path / "runs" / "hub").exists()
