"""What import-linter cannot hold: the scripts stand on the package and never on each other."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ENTRIES = [*ROOT.glob("*.py"), *ROOT.glob("scripts/*.py")]
NAMES = {path.stem for path in ENTRIES}


def imported(path: Path) -> set[str]:
    """Top-level names of everything that a file imports, anywhere in it."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names.add(node.module.split(".")[0])
    return names


@pytest.mark.parametrize("path", ENTRIES, ids=lambda path: path.name)
def test_entries_never_import_each_other(path: Path) -> None:
    assert not imported(path) & (NAMES | {"scripts"})


@pytest.mark.parametrize("path", sorted(ROOT.glob("soups/**/*.py")), ids=lambda path: path.as_posix())
def test_the_package_never_imports_an_entry(path: Path) -> None:
    assert not imported(path) & (NAMES | {"scripts"})


def test_accelerators_are_named_in_one_place() -> None:
    naming = [
        path.relative_to(ROOT).as_posix()
        for path in sorted(ROOT.glob("soups/**/*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.startswith("cuda")
    ]
    assert set(naming) <= {"soups/runtime/devices.py"}
