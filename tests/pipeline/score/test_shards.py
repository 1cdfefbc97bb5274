"""Test sets in shards: predictions equal those of one piece, with any earlier results and after any interruption."""

import importlib.util
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

import inference
from soups.checkpoints.card import read_card
from soups.checkpoints.checkpoint import read_state, write_checkpoint
from soups.core.errors import EnvironmentFailure, PartialFailure
from soups.pipeline.score import context
from soups.pipeline.score.shards import FailedTask, ShardTask, error_of_failures, reorder_rows
from tests.toy_runs import ToyRun

PrintedText = Callable[[], str]
BATCH = ("--eval-batch-size", "4", "--probabilities")
SHARDS = (*BATCH, "--shard-size", "7")  # Rounded up to whole batches: 8, 8 and 2 of the 18 images.
WAYS = {
    "single": ["--model-name", "toys_uniform_soup"],
    "soft": ["--soft-voting"],
    "minmax": ["--soft-voting", "--normalise", "minmax"],
    "weighted": ["--weighted-ensemble", "toys_start=1", "toys_uniform_soup=3"],
    "hard": ["--hard-voting"],
}


def remove_logits(toy_run: ToyRun) -> None:
    """Removes all stored logits."""
    shutil.rmtree(toy_run.run / "logits", ignore_errors=True)


def shards_of(toy_run: ToyRun) -> dict[str, tuple[int, bytes]]:
    """Returns every file of logits with its time and content."""
    return {path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in (toy_run.run / "logits").iterdir()}


@pytest.mark.parametrize("way", WAYS)
def test_shards_do_not_change_predictions(toy_run_copy: ToyRun, way: str, printed_text: PrintedText) -> None:
    remove_logits(toy_run_copy)
    assert inference.main([*WAYS[way], *BATCH, "--output", "whole.csv"]) == 0
    right = printed_text().split(" right")[0].split()[-3:]
    whole = shards_of(toy_run_copy)
    assert inference.main([*WAYS[way], *SHARDS, "--output", "kept.csv"]) == 0
    # Logits of the whole set are not computed again.
    assert shards_of(toy_run_copy) == whole and "tasks are done already" in printed_text()
    remove_logits(toy_run_copy)
    assert inference.main([*WAYS[way], *SHARDS, "--output", "shards.csv"]) == 0
    output = printed_text()
    assert "18 images in 3 shards of 8" in output and "shard 3 of 3 by toys" in output
    assert output.split(" right")[0].split()[-3:] == right
    assert len(shards_of(toy_run_copy)) == 3 * len(whole)
    assert Path("shards.csv").read_bytes() == Path("whole.csv").read_bytes() == Path("kept.csv").read_bytes()


def test_only_what_is_missing_is_computed_again(toy_run_copy: ToyRun, printed_text: PrintedText) -> None:
    remove_logits(toy_run_copy)
    assert inference.main(["--soft-voting", *SHARDS, "--jobs", "2", "--output", "vote.csv"]) == 0
    there, table = shards_of(toy_run_copy), Path("vote.csv").stat().st_mtime_ns
    lost = sorted(there)[4]
    (toy_run_copy.run / "logits" / lost).unlink()
    printed_text()
    assert inference.main(["--soft-voting", *SHARDS, "--output", "vote.csv"]) == 0
    assert "8 of 9 tasks are done already" in (output := printed_text()) and "(1 of 1)" in output
    again = shards_of(toy_run_copy)
    assert again[lost][1] == there[lost][1] and again[lost][0] != there[lost][0]
    assert {name: file for name, file in again.items() if name != lost} == {
        name: file for name, file in there.items() if name != lost
    }
    assert Path("vote.csv").stat().st_mtime_ns == table, "a table that says the same is left as it is"


def test_a_killed_command_resumes(toy_run_copy: ToyRun, printed_text: PrintedText) -> None:
    remove_logits(toy_run_copy)  # Those of the evaluation are from larger batches, which may change the last bits.
    assert inference.main([*WAYS["single"], *BATCH, "--output", "whole.csv"]) == 0
    remove_logits(toy_run_copy)
    arguments = [*WAYS["single"], *SHARDS, "--output", "vote.csv"]
    killed = f"""
import os, signal, inference
from soups.pipeline.score import context
keep, kept = context.store_logits, []
def until_the_third(path, logits):
    kept.append(path)
    os.kill(os.getpid(), signal.SIGKILL) if len(kept) == 3 else keep(path, logits)
context.store_logits = until_the_third
inference.main({arguments!r})
"""
    path = {"PYTHONPATH": str(Path(inference.__file__).parent)}
    ended = subprocess.run([sys.executable, "-c", killed], env={**os.environ, **path}, check=False, timeout=600)
    assert ended.returncode == -signal.SIGKILL
    assert len(shards_of(toy_run_copy)) == 2 and not Path("vote.csv").exists()
    printed_text()
    assert inference.main(arguments) == 0
    assert "2 of 3 tasks are done already" in printed_text()
    assert Path("vote.csv").read_bytes() == Path("whole.csv").read_bytes()


@pytest.fixture
def elsewhere(toy_run_copy: ToyRun, tmp_path: Path) -> Path:
    """Unlabelled test images in one folder; two of them are equal."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    for path in (toy_run_copy.data / "test").rglob("*.png"):
        shutil.copy(path, folder / f"{path.parent.name}-{path.name}")
    shutil.copy(folder / "red-p4_0.png", folder / "also-red.png")
    return folder


def test_order_and_ids_follow_the_source_of_the_images(
    toy_run_copy: ToyRun, elsewhere: Path, tmp_path: Path, printed_text: PrintedText
) -> None:
    names = sorted(path.name for path in elsewhere.glob("*.png"))
    mixed = [names[place] for place in np.random.default_rng(0).permutation(len(names))]
    pd.DataFrame({"image": [Path(name).stem for name in mixed]}).to_csv(elsewhere / "asked.csv", index=False)
    for asked, expected in ((elsewhere, names), (elsewhere / "asked.csv", [Path(name).stem for name in mixed])):
        remove_logits(toy_run_copy)
        location = ("--test-location", str(asked))
        assert inference.main(["--soft-voting", *location, *BATCH, "--output", "whole.csv"]) == 0
        assert inference.main(["--soft-voting", *location, *SHARDS, "--output", "kept.csv"]) == 0
        remove_logits(toy_run_copy)
        assert inference.main(["--soft-voting", *location, *SHARDS, "--output", "shards.csv"]) == 0
        assert Path("shards.csv").read_bytes() == Path("whole.csv").read_bytes() == Path("kept.csv").read_bytes()
        table = pd.read_csv("shards.csv")
        assert [name.rpartition("/")[2] for name in table["image"]] == expected
        twins = table[table["image"].str.contains("also-red|red-p4_0")]
        assert np.allclose(*twins[["blue", "green", "red"]].to_numpy(), atol=1e-6)
        assert " right (" not in printed_text()
    pd.DataFrame({"id": mixed[:9], "blue": 0, "green": 0, "red": 0}).to_csv("template.csv", index=False)
    filled = ("--test-location", str(elsewhere), "--sample-submission", "template.csv")
    assert inference.main(["--soft-voting", *filled, *SHARDS, "--output", "filled.csv"]) == 0
    alike = table.assign(id=table["image"] + ".png")[["id", "blue", "green", "red"]].head(9)
    pd.testing.assert_frame_equal(pd.read_csv("filled.csv"), alike)
    pd.DataFrame({"id": mixed[:9], "answer": 0}).to_csv("template.csv", index=False)
    assert inference.main(["--soft-voting", *filled, *SHARDS, "--output", "filled.csv"]) == 0
    Path("empty.csv").write_text("id,answer\n")
    empty = ("--test-location", str(elsewhere), "--sample-submission", "empty.csv")
    assert inference.main(["--soft-voting", *empty, *SHARDS, "--output", "none.csv"]) == 0
    assert Path("none.csv").read_text() == "id,answer\n"
    best = table[["blue", "green", "red"]].to_numpy()[:9].argmax(axis=1)
    assert pd.read_csv("filled.csv")["answer"].tolist() == best.tolist()


@pytest.mark.parametrize("cache", ["auto", "on", "off"])
def test_a_shard_that_fails_does_not_stop_the_others(
    toy_run_copy: ToyRun, elsewhere: Path, cache: str, printed_text: PrintedText
) -> None:
    names = sorted(path.name for path in elsewhere.glob("*.png"))
    picture = elsewhere / names[9]
    content = picture.read_bytes()
    for bad in (names[9], names[11]):
        (elsewhere / bad).write_bytes(content[:60])
    command = [*WAYS["single"], "--test-location", str(elsewhere), *SHARDS, "--output", "out.csv", "--cache", cache]
    assert inference.main(command) == 5
    output = printed_text()
    assert "1 of 3 tasks failed, so their predictions are not written" in output
    assert "shard 2 of 3 by toys_uniform_soup: 2 images cannot be read" in output
    assert names[9] in output and names[11] in output and not Path("out.csv").exists()
    for bad in (names[9], names[11]):
        (elsewhere / bad).write_bytes(content)
    assert inference.main(command) == 0
    assert "2 of 3 tasks are done already" in printed_text()
    assert len(pd.read_csv("out.csv")) == len(names)


def test_a_model_that_fails_does_not_stop_the_others(toy_run_copy: ToyRun, printed_text: PrintedText) -> None:
    sound = toy_run_copy.run / "models" / "toys_uniform_soup.safetensors"
    state, card = read_state(sound), read_card(sound)
    assert card is not None
    write_checkpoint(sound.with_name("damaged.safetensors"), {"head.bias": state["head.bias"]}, card)
    remove_logits(toy_run_copy)
    assert inference.main(["--each", "--model-name", "damaged", sound.stem, *SHARDS]) == 5
    output = printed_text()
    assert "3 of 6 tasks failed" in output and "shard 1 of 3 by damaged, shard 2 of 3 by damaged" in output
    assert len(pd.read_csv(toy_run_copy.run / "output" / f"{sound.stem}.csv")) == 18
    assert not (toy_run_copy.run / "output" / "damaged.csv").exists()


def test_each_reason_is_reported_once_if_all_shards_fail(
    toy_run_copy: ToyRun, elsewhere: Path, printed_text: PrintedText
) -> None:
    for path in elsewhere.glob("*.png"):
        path.write_bytes(b"no picture")
    command = ["--soft-voting", "--test-location", str(elsewhere), "--output", "out.csv"]
    assert inference.main(command) == 3, "one reason, and nothing was done"
    assert "19 images cannot be read" in printed_text()
    assert inference.main([*command, *SHARDS]) == 5
    assert "9 of 9 tasks" in (output := printed_text())
    # Each reason is reported once, with the tasks that it stopped.
    assert output.count("also-red.png") == 1 and "shard 1 of 3 by toys0_epochs" in output


def test_messages_of_failures() -> None:
    def failed(*errors: Exception) -> list[FailedTask]:
        return [
            FailedTask(ShardTask(SimpleNamespace(number=number, of=9), Path("m.safetensors"), None), error)  # type: ignore[arg-type]
            for number, error in enumerate(errors, start=1)
        ]

    full = [EnvironmentFailure(f"{name}: disk full", next_step="free some space") for name in "ab"]
    output = error_of_failures(failed(*full), 2)
    assert isinstance(output, EnvironmentFailure) and str(output).count("free some space") == 1
    output = error_of_failures(failed(*full), 3)
    assert isinstance(output, PartialFailure) and "shard 2 of 9 by m: b: disk full" in str(output)
    ours = RuntimeError("out of memory")
    assert error_of_failures(failed(ours), 1) is ours
    assert "shard 1 of 9 by m: RuntimeError: out of memory" in str(error_of_failures(failed(ours), 9))


def test_an_internal_error_keeps_its_traceback_and_stops_no_other(
    toy_run_copy: ToyRun, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    keep, asked = context.store_logits, list[Path]()

    def out_of_memory(path: Path, logits: np.ndarray) -> None:
        asked.append(path)
        if len(asked) == 2:
            raise RuntimeError("out of memory")
        keep(path, logits)

    remove_logits(toy_run_copy)
    monkeypatch.setattr(context, "store_logits", out_of_memory)
    assert inference.main([*WAYS["single"], *SHARDS]) == 5
    output = capsys.readouterr().err
    assert "1 of 3 tasks failed" in output and "Traceback" in output and "RuntimeError: out of memory" in output
    assert len(shards_of(toy_run_copy)) == 2
    assert inference.main([*WAYS["single"], *SHARDS]) == 0


@pytest.mark.skipif(
    importlib.util.find_spec("pyarrow") is None and not os.environ.get("CI"), reason="pyarrow is not installed"
)
def test_parquet_equals_csv(toy_run_copy: ToyRun, elsewhere: Path) -> None:
    location = ["--soft-voting", "--test-location", str(elsewhere)]
    for more in (location, [*location, *SHARDS]):
        for ending in ("csv", "parquet"):
            assert inference.main([*more, "--output", f"out.{ending}"]) == 0
        table = pd.read_parquet("out.parquet")
        pd.testing.assert_frame_equal(table, pd.read_csv("out.csv"), check_dtype=False)
        assert table["confidence"].dtype == np.float64
    content = Path("out.parquet").read_bytes()
    assert inference.main([*location, *SHARDS, "--output", "again.parquet"]) == 0
    assert Path("again.parquet").read_bytes() == content
    for name, answers in {"a": "xy", "b": "yy"}.items():
        pd.DataFrame({"id": ["007", "8"], "answer": list(answers)}).to_csv(f"{name}.csv", index=False)
    assert inference.main(["--hard-voting", "a.csv", "b.csv", "--output", "vote.parquet"]) == 0
    assert pd.read_parquet("vote.parquet")["id"].tolist() == ["007", "8"]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--shard-size", "0"], 2, "greater than 0"),
        (["--ray-address", "auto"], 2, "--ray-address is for a Ray cluster next: add --launcher ray"),
        (["--no-shared-storage"], 2, "--no-shared-storage is for a Ray cluster"),
        (["--launcher", "rya"], 2, "did you mean 'ray'?"),
        (["--output", "x.parq"], 2, "x.parq: unknown kind of table '.parq' expected: a name that ends in .csv or"),
        (["--output", "x.parquet"], 4, "x.parquet: Parquet needs pyarrow, which is not installed next: pip install"),
        (["--launcher", "ray"], 4, "--launcher ray needs ray, which is not installed next: pip install ray"),
    ],
)
def test_impossible_requests_are_refused_before_any_work(
    toy_run_copy: ToyRun,
    arguments: list[str],
    code: int,
    words: str,
    printed_text: PrintedText,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    there = importlib.util.find_spec

    def without(name: str, *more: Any) -> Any:
        return None if name in ("pyarrow", "ray") else there(name, *more)

    monkeypatch.setattr(importlib.util, "find_spec", without)
    before = toy_run_copy.contents()
    assert inference.main(arguments) == code
    assert words in printed_text()
    assert toy_run_copy.contents() == before


def test_tables_are_voted_on_here(
    toy_run_copy: ToyRun, printed_text: PrintedText, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    assert inference.main(["--hard-voting", "a.csv", "--launcher", "ray"]) == 2
    assert "--launcher ray: voting over tables runs locally" in printed_text()


def test_rows_are_reordered_through_a_file(tmp_path: Path) -> None:
    table = np.random.default_rng(0).random((17, 3))
    order = np.random.default_rng(1).permutation(17)[:11]
    blocks = (table[start : start + 5] for start in range(0, 17, 5))
    pages = list(reorder_rows(blocks, order, tmp_path, 4))
    assert [len(page) for page in pages] == [4, 4, 3]
    assert np.array_equal(np.concatenate(pages), table[order])
    (empty,) = reorder_rows(iter([table]), order[:0], tmp_path, 4)
    assert empty.shape == (0, 3)
    assert list(tmp_path.iterdir()) == []
