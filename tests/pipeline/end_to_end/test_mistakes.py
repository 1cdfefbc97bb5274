"""Mistakes in command lines and files: each gives one message and the right exit code, and nothing is lost."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import finetune
import inference
import main
import validation

ToyRun = Any
PrintedText = Callable[[], str]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--name", "new"], 2, "--data-location is missing"),
        (["--name", "new", "--data-location", "nowhere"], 3, "nowhere"),
        (["--data-location", "nowhere"], 3, "--data-location nowhere: no such folder"),
        (["--split-seed", "3"], 2, "--split-seed: run 'toys' was made with another value"),
        (["--threads", "3"], 2, "--threads: run 'toys' was made with another value"),
        (["--precision", "bf16"], 2, "recorded: fp32 given: bf16"),
        (["--i", "2-1"], 2, "3, 0-11 or 0,4,7"),
        (["--metric", "acuracy"], 2, "did you mean 'accuracy'?"),
        (["--optimizer", "adamwx", "--i", "60"], 2, "unknown optimizer 'adamwx'"),
        (["--hparams", "none.json", "--i", "60"], 2, "no such file"),
        (["--i", "60", "--start-from", "nowhere"], 2, "model_60.safetensors or model_60.pt"),
        (["--i", "60", "--oversample", "purple=2"], 2, "purple"),
        (["--i", "60", "--aug", "rnd-9"], 2, "rand-m9-n2"),
        (["--i", "60", "--device", "quantum"], 4, "--device quantum: not usable here"),
        (["--i", "60", "--lp-epochs", "1", "--freeze-backbone"], 2, "freeze_backbone"),
        (["--name", "../up"], 2, "name"),
    ],
)
def test_wrong_command_lines_of_finetune(
    toy_run_copy: ToyRun, arguments: list[str], code: int, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = toy_run_copy.contents()
    assert finetune.main(arguments) == code
    captured = capsys.readouterr()
    assert words in " ".join((captured.out + captured.err).split())
    assert "Traceback" not in captured.err
    assert toy_run_copy.contents() == before


@pytest.mark.parametrize(
    ("command", "arguments", "code", "words"),
    [
        (main.main, [], 2, "nothing to do"),
        (main.main, ["--soup", "gredy"], 2, "did you mean 'greedy'?"),
        (main.main, ["--greedy-soup", "--name", "toyz"], 2, "one of the runs: toys"),
        (main.main, ["--greedy-soup", "--val-ratio", "0.3"], 2, "--val-ratio"),
        (main.main, ["--download-models"], 2, "--model-location"),
        (main.main, ["--plot", "--results", "."], 3, "individual_model_results.jsonl"),
        (inference.main, ["--model-name", "toys77"], 2, "toys77: no such model"),
        (inference.main, ["--soft-voting", "--hard-voting"], 2, "one voting rule"),
        (inference.main, ["--each", "--soft-voting"], 2, "--each and --soft-voting"),
        (inference.main, ["--each", "--output", "x.csv"], 2, "--each and --output"),
        (inference.main, ["--soft-voting", "toys_start=0.5"], 2, "--weighted-ensemble"),
        (inference.main, ["--weighted-ensemble", "toys_start=0.5", "toys_uniform_soup"], 2, "toys_uniform_soup"),
        (inference.main, ["--model-name", "toys_start", "toys_uniform_soup"], 2, "way of voting"),
        (inference.main, ["--hard-voting", "a.csv", "toys_start"], 2, "models alone or CSVs alone"),
        (inference.main, ["--sample-submission", "none.csv"], 2, "no such file"),
        (inference.main, ["--test-location", "nowhere"], 3, "nowhere"),
        (validation.main, ["--model-name", "toys77"], 2, "toys77: no such model"),
    ],
)
def test_wrong_command_lines_of_the_others(
    toy_run_copy: ToyRun,
    command: Callable[[list[str]], int],
    arguments: list[str],
    code: int,
    words: str,
    printed_text: PrintedText,
) -> None:
    before = toy_run_copy.contents()
    assert command(arguments) == code
    assert words in " ".join(printed_text().split())
    assert toy_run_copy.contents() == before


def test_two_models_of_one_name_are_both_listed(toy_run_copy: ToyRun, printed_text: PrintedText) -> None:
    other = toy_run_copy.folder / "runs" / "other" / "models"
    shutil.copytree(toy_run_copy.run / "models", other)
    (toy_run_copy.run / "models" / "toys0.pt").write_bytes(b"")
    (toy_run_copy.run / "models" / "toys0.safetensors").write_bytes(b"")
    assert inference.main(["--model-name", "toys0"]) == 2
    error = printed_text()
    assert "two models have this name" in error and "toys0.pt" in error and "toys0.safetensors" in error


def test_a_changed_ingredient_is_reported(toy_run_copy: ToyRun, capsys: pytest.CaptureFixture[str]) -> None:
    path = sorted((toy_run_copy.run / "models").glob("toys0_epochs*"))[0]
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    (toy_run_copy.run / "models" / "toys_uniform_soup.safetensors").unlink()
    # A changed file is another model: it is scored anew and souped as what it is now.
    assert main.main(["--uniform-soup"]) == 0
    names = [line["model_name"] for line in toy_run_copy.log("individual_results.jsonl")]
    assert names.count(path.stem) == 2


def test_a_truncated_checkpoint_is_named_and_nothing_is_lost(toy_run_copy: ToyRun, printed_text: PrintedText) -> None:
    path = sorted((toy_run_copy.run / "models").glob("toys0_epochs*"))[0]
    path.write_bytes(path.read_bytes()[:-100])
    before = toy_run_copy.contents()
    assert main.main(["--uniform-soup"]) == 3
    error = printed_text()
    assert path.name in error and "not a whole safetensors file" in error
    assert toy_run_copy.contents() == before


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_write_permission_is_one_message(toy_run_copy: ToyRun, printed_text: PrintedText) -> None:
    output = toy_run_copy.run / "output"
    output.chmod(0o500)
    try:
        assert inference.main([]) == 4
    finally:
        output.chmod(0o700)
    assert "no permission to write" in printed_text()


def test_a_file_at_the_place_of_the_output_folder_is_one_message(
    toy_run_copy: ToyRun, printed_text: PrintedText
) -> None:
    Path("taken").write_text("")
    assert inference.main(["--output", "taken/predictions.csv"]) == 4
    assert "taken/predictions.csv: cannot be written" in printed_text()


def test_pretrained_weights_without_a_network_are_one_message(toy_run_copy: ToyRun, printed_text: PrintedText) -> None:
    # Port 9 discards; nothing listens there.
    arguments = ["--download-models", "--model-location", "public", "--download-url", "http://127.0.0.1:9"]
    assert main.main(arguments) == 4
    assert "model_0.pt" in printed_text()


def test_the_original_s_result_files_are_plotted_as_they_are(
    toy_run_copy: ToyRun, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ["ImageNet2p", "ImageNet", "ImageNetV2", "ImageNetR", "ImageNetSketch", "ObjectNet", "ImageNetA"]
    folder = toy_run_copy.folder / "original"
    folder.mkdir()
    for file, models in {"individual_model": ["model_0", "model_1"], "greedy_soup": ["greedy_soup"]}.items():
        rows = [
            {"model_name": model, **dict.fromkeys(names, 0.5 + 0.01 * number)} for number, model in enumerate(models)
        ]
        (folder / f"{file}_results.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert main.main(["--plot", "--results", "original"]) == 0
    assert (folder / "soups.png").stat().st_size > 1000
