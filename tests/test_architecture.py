"""Rules that import-linter does not check: no import cycle between files, small folders, scripts on top."""

import ast
from collections import Counter
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ENTRIES = [*ROOT.glob("*.py"), *ROOT.glob("scripts/**/*.py")]
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


def graph_of_files() -> dict[str, set[str]]:
    """Module → the modules that it imports, anywhere in it, for annotations too; of the package and the tools."""
    paths = [*ROOT.glob("soups/**/*.py"), *ROOT.glob("tools/**/*.py")]
    modules = {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path for path in paths}
    graph: dict[str, set[str]] = {}
    for module, path in modules.items():
        found: set[str] = set()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
                inner = {f"{node.module}.{alias.name}" for alias in node.names}
                found |= inner & set(modules) or {node.module}
        graph[module] = found & set(modules) - {module}
    return graph


def test_no_file_imports_itself_by_way_of_others() -> None:
    TopologicalSorter(graph_of_files()).prepare()  # CycleError names the files.


def test_folders_are_small() -> None:
    sizes = Counter(path.parent for path in ROOT.glob("soups/**/*.py") if path.name != "__init__.py")
    assert {folder.as_posix(): size for folder, size in sizes.items() if size > 16} == {}
