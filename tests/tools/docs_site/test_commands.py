"""Which command a command line calls."""

import re
from pathlib import Path

import pytest
from pydantic import BaseModel

from tools.docs_site.commands import COMMANDS, DocumentedCommand, find_command


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.script)
def test_commands_can_be_imported(command: DocumentedCommand) -> None:
    assert issubclass(command.settings(), BaseModel)
    assert callable(command.function())


def test_every_script_is_documented() -> None:
    root = Path(__file__).parents[3]
    scripts = {*root.glob("*.py"), *root.glob("scripts/*.py"), *root.glob("scripts/benchmarks/*.py")}
    # `scripts/bench*.py` are former names of scripts/benchmarks; some scripts have no settings.
    names = {
        path.relative_to(root).as_posix()
        for path in scripts
        if not path.name.startswith("bench") and re.search(r"\b\w+\.run\(\w*[\"S]", path.read_text(encoding="utf-8"))
    }
    assert names == {command.script for command in COMMANDS}


@pytest.mark.parametrize(
    ("line", "script", "arguments"),
    [
        ("python main.py --report", "main.py", ["--report"]),
        ("soups search --trials 3", "scripts/search.py", ["--trials", "3"]),
        ("accelerate launch --multi_gpu finetune.py --i 0", "finetune.py", ["--i", "0"]),
    ],
)
def test_lines_find_their_command(line: str, script: str, arguments: list[str]) -> None:
    found = find_command(line.split())
    assert found is not None
    assert (found[0].script, found[1]) == (script, arguments)


@pytest.mark.parametrize("line", ["", "pip install .", "soups nothing", "python -m pytest"])
def test_other_lines_find_none(line: str) -> None:
    assert find_command(line.split()) is None
