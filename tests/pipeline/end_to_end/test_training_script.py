"""Each command of training.sh on toy images, with other data, another model and smaller sizes."""

import json
import re
import shlex
from pathlib import Path

import pytest

import finetune
import inference
import main
import validation

SCRIPT = Path(__file__).parents[3] / "training.sh"
COMMANDS = {"finetune": finetune.main, "main": main.main, "inference": inference.main, "validation": validation.main}
SMALLER = {"--i": ["0-1"], "--epochs-range": ["1", "2"], "--class-order": ["blue", "green", "red"], "--jobs": ["1"]}


def commands_of_the_script(data: Path, clip: Path) -> list[list[str]]:
    """`[command, argument, …]` of each line that runs one of the four commands."""
    text = SCRIPT.read_text(encoding="utf-8").replace("\\\n", " ")
    values = {"$NAME": "digits", "$DATA": str(data), "$MODEL": f"local-dir:{clip}"}
    found = []
    for line in re.findall(r"^python (.*)$", text, flags=re.MULTILINE):
        words = shlex.split(line.partition(">")[0])
        found.append([Path(words[0]).stem, *(values.get(word, word) for word in words[1:])])
    return found


def smaller(words: list[str]) -> list[str]:
    """The arguments, with those of `SMALLER` in place of the script's."""
    result: list[str] = []
    skipping = False
    for word in words:
        if word.startswith("--"):
            skipping = word in SMALLER
            result += [word, *SMALLER.get(word, [])]
        elif not skipping:
            result.append(word)
    return result


def test_every_command_of_training_sh_runs_in_its_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, toy_data: Path, tiny_clip: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    commands = commands_of_the_script(toy_data, tiny_clip)
    assert [command for command, *_ in commands] == [
        *("finetune", "main", "inference", "inference", "inference", "validation", "main")
    ]
    for command, *words in commands:
        capsys.readouterr()
        arguments = [word.replace(r"(w\d+)_", r"(p\d+)_") for word in smaller(words)]
        assert COMMANDS[command](arguments) == 0, capsys.readouterr().err
    table = capsys.readouterr().out
    for row in ("best single", "uniform soup", "greedy soup", "learned soup", "soft vote", "hard vote"):
        assert row in table
    for column in ("validation %", "cross-fitted", "test % [95%]", "mean shift % [95%]", "log-loss", "images/s"):
        assert column in table
    run = tmp_path / "runs" / "digits"
    assert "Use digits" in table.splitlines()[-1]
    chosen = json.loads((run / "logs" / "choice.jsonl").read_text().splitlines()[-1])["answer"]
    for file in (chosen, "soft_voting", "hard_voting"):
        assert (run / "output" / f"{file}.csv").stat().st_size > 0
    assert (run / "figures" / "soups.png").stat().st_size > 0
    # Bare, as the script's last line says.
    assert main.main(["--greedy-soup"]) == inference.main(["--soft-voting"]) == validation.main([]) == 0
