"""What is announced before training, on a toy run: the block, dry runs, one batch, and the table after training."""

import csv
from pathlib import Path

import pytest

import finetune
from soups.pipeline.train.pool_table import next_command
from tests.toy_runs import ToyRun

NEW = ["--model", "baseline", "--image-size", "16", "--precision", "fp32", "--threads", "1", "--batch-size", "8"]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_dry_run_shows_the_block_and_leaves_nothing(
    toy_data: Path, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["--data-location", str(toy_data), "--name", "p", *NEW, "--group-pattern", r"(p\d+)_", "--dry-run"]
    assert finetune.main([*command, "--i", "0-1", "--hparams", "random"]) == 0
    out, err = capsys.readouterr()
    words = " ".join(out.split())
    assert err == "" and list(place.iterdir()) == []
    assert out.startswith("run p in runs/p: 2 to train, 0 finished\n")
    assert f"data {toy_data}: layout folder" in words
    assert "validation images: 1 of 4 groups drawn (--val-ratio 0.2, --split-seed 0)" in words
    assert "groups train 3, val 1, test 2, dark 2, noisy 2" in words
    assert "class train val test dark noisy" in words and "blue 9 3 6 6 6" in words
    assert "start baseline, random weights, images of 16 × 16 pixels runs on cpu, fp32, 1 job of 1 thread" in words
    assert "p0 7.92e-06 0.0683 16 crop 0.0268 0.0506" in words
    assert "the weights are random, but lr is at most 4.98e-05" in words and "--lr-range 3e-4 3e-3" in words
    assert finetune.main([*command, "--lr", "1e-3", "--patience", "3"]) == 0
    words = " ".join(capsys.readouterr().out.split())
    assert "the weights are random" not in words and "settings batch_size 8, hparams fixed, patience 3" in words
    assert finetune.main([*command, "--optimizer", "adamwhat"]) == 2
    assert finetune.main([*command, "--i", "a"]) == 2
    assert finetune.main([*command, "--freeze", "9"]) == 2
    assert list(place.iterdir()) == []


def test_one_batch_of_a_new_run(toy_data: Path, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["--data-location", str(toy_data), "--name", "p", *NEW, "--dry-run", "one-batch", "--i", "0-2"]
    assert finetune.main([*command, "--epochs", "3", "--lp-epochs", "1"]) == 0
    out = capsys.readouterr().out
    words = " ".join(out.split())
    assert "one batch of p0, nothing is saved: training step 8 images, " in words
    assert "(a guess: 1.0986) validation step 7 images, " in words and "always 'red': 42.9%" in words
    assert "all 12 epochs about " in words and out.endswith("dry run: nothing was trained\n")
    assert list(place.iterdir()) == []
    assert finetune.main([*command, "--lr", "1e30", "--optimizer", "sgd", "--clip", "0", "--warmup", "0"]) == 2
    assert "error: one batch of p0: lr 1e+30: " in capsys.readouterr().err
    assert list(place.iterdir()) == []


def test_dry_runs_of_an_existing_run_write_nothing(toy_run_copy: ToyRun, capsys: pytest.CaptureFixture[str]) -> None:
    before = toy_run_copy.contents()
    assert toy_run_copy.finetune("--i", "0-3", "--dry-run", "one-batch", "--overwrite") == 0
    out = capsys.readouterr().out
    assert out.startswith("run toys in runs/toys: 4 to train, 3 finished\n") and "one batch of toys0" in out
    assert toy_run_copy.contents() == before
    command = ("--i", "0", "--model-location", "elsewhere", "--dry-run", "one-batch")
    assert toy_run_copy.finetune(*command) == 0  # That folder has no start.
    assert "one batch of toys0" in capsys.readouterr().out and toy_run_copy.contents() == before


def test_the_table_of_the_pool_follows_the_training(toy_run_copy: ToyRun, capsys: pytest.CaptureFixture[str]) -> None:
    assert toy_run_copy.finetune("--i", "5", "--epochs", "1", "--lr", "1e-9") == 0
    out, err = capsys.readouterr()
    assert err.startswith("run toys in runs/toys: 1 to train, 3 finished\n")
    assert "toys5: after epoch 1 its validation accuracy is not above that of always answering" in err
    with (toy_run_copy.run / "output" / "pool.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    shown = [line.split() for line in out.split("\n")]
    assert [row["model"] for row in rows] == [line[0] for line in shown[2:6]] and rows[3]["lr"] == "1e-09"
    assert [f"{100 * float(row['val_accuracy']):.1f}" for row in rows] == [line[-1] for line in shown[2:6]]
    assert "not better than always answering 'blue'" in out and out.endswith(
        "also in runs/toys/output/pool.csv\n"
        "next: python main.py --name toys --eval-individual-models --greedy-soup --report\n"
    )
    # Finished already: there is nothing to announce, but the pool.
    assert toy_run_copy.finetune("--i", "5", "--epochs", "1", "--lr", "1e-9") == 0
    again, err = capsys.readouterr()
    assert again == out and "to train" not in err


def test_the_next_command_of_a_single_model_trains_more() -> None:
    assert next_command("p", 1) == "python finetune.py --name p --i 1-11 --hparams random"


def test_notices_of_the_data_are_a_part_of_the_block(
    toy_data: Path, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["--data-location", str(toy_data), "--name", "p", *NEW, "--epochs", "1", "--lr", "1e-3"]
    assert finetune.main([*command, "--limit", "12", "--val-ratio", "None"]) == 0
    err = capsys.readouterr().err
    assert err.startswith("run p in runs/p: 1 to train, 0 finished\n")
    assert err.count("--limit 12") == 1 and err.count("which flatters") == 1
