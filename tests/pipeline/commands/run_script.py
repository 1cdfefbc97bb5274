"""Runs files of scripts/ as commands in this process."""

import importlib.util
from pathlib import Path
from types import ModuleType

SCRIPTS = Path(__file__).parents[3] / "scripts"


def load_script(name: str) -> ModuleType:
    """Return a file of scripts/ as a module."""
    specification = importlib.util.spec_from_file_location(f"script_{Path(name).stem}", SCRIPTS / f"{name}.py")
    assert specification is not None and specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def run(name: str, *arguments: str) -> int:
    """Return the exit code of a script."""
    code: int = load_script(name).main(list(arguments))
    return code
