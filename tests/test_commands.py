"""The table of commands, the command `soups`, and the wheel that installs it."""

import inspect
import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from soups import commands

ROOT = Path(__file__).parents[1]


def find(place: str) -> object:
    module, _, name = place.partition(":")
    return getattr(import_module(module), name)


@pytest.mark.parametrize("name", commands.COMMANDS)
def test_every_command_has_settings_a_function_and_flags_in_its_examples(name: str) -> None:
    command = commands.COMMANDS[name]
    assert callable(find(command.function)) and inspect.isclass(find(command.settings))
    assert command.summary.endswith(".") and len(command.summary) < 90
    flags = set(commands.flags_of(name))
    for example in command.examples:
        assert {word for word in example.split() if word.startswith("--")} <= flags, example
    assert command.environment is None or isinstance(find(command.environment), dict)
    settings: Any = find(command.settings)
    for each in (settings, *(field.annotation for field in settings.model_fields.values())):
        assert set(getattr(each, "RARE", ())) <= set(getattr(each, "model_fields", ())), each


def test_help_lists_the_commands_and_imports_none(capsys: pytest.CaptureFixture[str]) -> None:
    assert commands.main(["--help"]) == 0
    text = capsys.readouterr().out
    assert all(f"  {name}" in text and each.summary in text for name, each in commands.COMMANDS.items())
    code = (
        "import sys; from soups.commands import main; main(['--help']); print({'pydantic', 'torch'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.endswith("set()\n")


def test_an_unknown_command_is_one_message(capsys: pytest.CaptureFixture[str]) -> None:
    assert commands.main(["inferense"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: soups: unknown command 'inferense'\n  expected: one of finetune, main, ")
    assert "did you mean 'inference'?" in error


def test_a_command_is_called_with_dashes_or_underscores(capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("show-batch", "show_batch"):
        assert commands.main([name, "--help"]) == 0
        assert capsys.readouterr().out.startswith("usage: soups show-batch [flags]\n")


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_completion_knows_commands_and_flags(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert commands.main(["--completion", shell]) == 0
    script = capsys.readouterr().out
    assert "find-label-errors" in script and "--greedy-soup" in script
    if shell == "bash":
        ask = "COMP_WORDS=(soups main --greedy); COMP_CWORD=2; _soups; echo ${COMPREPLY[@]}"
        done = subprocess.run(["bash", "-c", f"{script}\n{ask}"], capture_output=True, text=True, check=True)
        assert done.stdout == "--greedy-soup\n"
    assert commands.main(["--completion", "fish"]) == 2
    assert "expected: bash or zsh" in capsys.readouterr().err


def test_the_wheel_installs_the_command_and_nothing_else(tmp_path: Path) -> None:
    source = tmp_path / "source"
    shutil.copytree(ROOT / "soups", source / "soups", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    build = [*pip, "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", str(tmp_path), str(source)]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("soups-*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names} == {"soups", f"{wheel.name.split('-py3')[0]}.dist-info"}
    assert {"soups/py.typed", "soups/report/html/page.html", "soups/data/layouts/profile.yaml"} <= set(names)

    environment = tmp_path / "environment"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(environment)], check=True)
    python = environment / "bin" / "python"
    packages = next(environment.glob("lib/python*/site-packages"))
    target = [*pip, "install", "--quiet", "--no-deps", "--target", str(packages), str(wheel)]
    subprocess.run(target, check=True, capture_output=True)
    # The packages that soups depends on come from the present environment; soups itself does not.
    (packages / "others.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}

    def soups(*words: str) -> str:
        code = (
            "import soups, sys; assert 'environment' in soups.__file__; import soups.commands as c; sys.exit(c.main())"
        )
        done = subprocess.run([python, "-c", code, *words], cwd=tmp_path, env=clean, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert soups("--version").startswith("soups 0.")
    assert "wise_ft" in soups("main", "--list-recipes")
    assert soups("inference", "--help").startswith("usage: soups inference [flags]")
    assert "[console_scripts]\nsoups = soups.commands:main" in (
        zipfile.ZipFile(wheel).read(f"{wheel.name.split('-py3')[0]}.dist-info/entry_points.txt").decode()
    )
