"""The drawing of the rooms' imports."""

import importlib.util
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "scripts" / "draw_dependencies.py"
specification = importlib.util.spec_from_file_location("draw_dependencies", SCRIPT)
assert specification is not None and specification.loader is not None
script = importlib.util.module_from_spec(specification)
specification.loader.exec_module(script)


def test_arrows_that_follow_from_others_are_left_out() -> None:
    graph = {"a": {"b", "c"}, "b": {"c"}, "c": set()}
    assert script.direct_edges(graph) == [("a", "b"), ("b", "c")]


def test_imports_are_found_in_files_and_folders() -> None:
    found = script.imports_between("soups", ["commands", "core", "cli", "files"])
    assert found == {"commands": {"core", "cli"}, "core": set(), "cli": {"core", "files"}, "files": {"core"}}


def test_the_drawing_in_the_documentation_is_up_to_date() -> None:
    assert script.DRAWING.read_text(encoding="utf-8") == script.drawing(), "run: python scripts/draw_dependencies.py"
