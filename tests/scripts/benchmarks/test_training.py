"""The benchmark of training works and prints what it measured; speeds are not checked."""

import importlib.util
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from types import ModuleType

import pytest

from soups.core.errors import DataError

SCRIPT = Path(__file__).parents[3] / "scripts" / "benchmarks" / "training.py"


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    specification = importlib.util.spec_from_file_location("bench_script", SCRIPT)
    assert specification is not None and specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    # Help texts come from the source, which is looked up by the module's name.
    monkeypatch.setitem(sys.modules, "bench_script", module)
    specification.loader.exec_module(module)
    return module


def test_quick_run_measures_all_parts_and_leaves_nothing(
    bench: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import torch

    threads, cache, elsewhere = torch.get_num_threads(), os.environ["SOUPS_CACHE"], tmp_path / "temporary"
    elsewhere.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(elsewhere))
    output = tmp_path / "bench.jsonl"
    try:
        code = bench.main(
            ["--quick", "--images", "12", "--threads", "1", "--precision", "bf16", "--output", str(output)]
        )
    finally:
        torch.set_num_threads(threads)
    assert code == 0
    assert not list(elsewhere.glob("soups*"))  # Libraries keep folders of their own until the process ends.
    assert os.environ["SOUPS_CACHE"] == cache

    machine, *rows = [json.loads(line) for line in output.read_text(encoding="utf-8").splitlines()]
    assert machine["images"] == 12, "a flag that is given wins over --quick"
    assert (machine["model"], machine["threads"], machine["precision"]) == ("tiny", 1, "bf16")
    assert [row["part"] for row in rows] == ["training"] * 4 + ["evaluation"] * 4 + ["loading"] * 4
    for row in rows:
        first = next(other for other in rows if other["part"] == row["part"])
        pairs = zip(row["images_per_second"], first["images_per_second"], strict=True)
        assert len(row["images_per_second"]) == machine["repeats"] == 2
        assert min(row["images_per_second"]) > 0
        assert row["ratio"] == pytest.approx([speed / reference for speed, reference in pairs])

    printed = capsys.readouterr().out
    assert all(row["row"] in printed for row in rows)
    for private in (str(tmp_path), str(Path.home()), platform.node()):
        assert private not in printed + output.read_text(encoding="utf-8")


def test_rows_take_turns_and_ratios_stay_within_a_turn(bench: ModuleType) -> None:
    calls: list[str] = []
    speeds = {"plain": iter([9.0, 1.0, 4.0]), "soups": iter([9.0, 3.0, 8.0])}

    def work(name: str) -> float:
        calls.append(name)
        return next(speeds[name])

    rows = {name: bench.partial(work, name) for name in speeds}
    results = bench.measure("toys", rows, repeats=2, warm=True)
    assert calls == ["plain", "soups"] * 3
    assert results == [
        {"part": "toys", "row": "plain", "images_per_second": [1.0, 4.0], "ratio": [1.0, 1.0]},
        {"part": "toys", "row": "soups", "images_per_second": [3.0, 8.0], "ratio": [3.0, 2.0]},
    ]
    head, plain, soups = bench.table(results).splitlines()
    assert soups.split() == ["toys", "soups", "5.5", "3.0–8.0", "2.50", "2.00–3.00"]
    assert plain.index("2.5") == soups.index("5.5") == head.index("images/s")


def test_plain_and_own_way_see_the_same_images(bench: ModuleType, tmp_path: Path) -> None:
    import numpy as np
    import torch

    from soups.core.preprocessing import normalise

    settings = bench.BenchSettings(quick=True, images=23, batch_size=4, runtime={"threads": torch.get_num_threads()})
    workbench = bench.set_up(settings, tmp_path)
    batches = list(workbench.loader(False))
    ours = normalise(torch.from_numpy(workbench.images(False).take(np.arange(23))), workbench.start.preprocessing)
    torch.testing.assert_close(torch.cat([images for images, _ in batches]), ours, rtol=0, atol=1e-5)
    assert torch.cat([labels for _, labels in batches]).tolist() == workbench.labels.tolist()


def test_wrong_values_are_usage_errors(bench: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    assert bench.main(["--parts", "souping"]) == 2
    assert "souping" in capsys.readouterr().err
    assert bench.main(["--images", "9"]) == 2
    assert "at least 10" in capsys.readouterr().err


def test_help_comes_without_torch() -> None:
    program = f"""
import runpy, sys
sys.argv = ["training.py", "--help"]
try:
    runpy.run_path({str(SCRIPT)!r}, run_name="__main__")
except SystemExit as end:
    assert end.code == 0, end.code
assert not {{"torch", "open_clip", "timm", "PIL", "pandas"}} & set(sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert "--quick" in done.stdout


def test_state_and_device_are_measured_in_short(tmp_path: Path) -> None:
    for script, flags in (
        ("state", ["--repeats", "2", "--batch-size", "1", "--folder", str(tmp_path)]),
        ("device", ["--batch-size", "2", "--steps", "1", "--repeats", "2", "--classes", "3"]),
    ):
        command = [sys.executable, str(SCRIPT.with_name(f"{script}.py")), "--model", "timm:test_vit", *flags]
        done = subprocess.run([*command, "--threads", "1", "--device", "cpu"], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        words = {
            "state": r"a state of \d\.\d+ GB\nsaving: \d+\.\d+ s .*; reading: .*\nby the clock, every 10 ",
            "device": r"batches of 2\ntraining: \d+ images/s \(\d+ to \d+\)\nevaluation: \d+ images/s",
        }
        assert re.search(words[script], done.stdout), done.stdout
    assert list(tmp_path.iterdir()) == []


def test_pool_bench_refuses_models_that_differ() -> None:
    specification = importlib.util.spec_from_file_location("bench_pool", SCRIPT.with_name("pool.py"))
    assert specification is not None and specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    made = {way: {"a": "1", "b": "2"} for way in module.WAYS}
    module.check_bytes(made)
    made[module.TOGETHER] = {"a": "1", "b": "3"}
    with pytest.raises(DataError, match="one after the other: b"):
        module.check_bytes(made)
