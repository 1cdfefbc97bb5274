"""Every command that a page may name: its script, its settings class and its function, imported when asked for."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING

from soups.commands import COMMANDS as INSTALLED
from soups.commands import run

if TYPE_CHECKING:
    from pydantic import BaseModel


@dataclass(frozen=True)
class DocumentedCommand:
    """A command as the pages write it."""

    script: str
    """Path of its file from the repository's root."""
    settings_path: str
    """`module:Class` of its settings."""
    name: str | None = None
    """Its name in `soups.commands.COMMANDS`; None for scripts that are not installed."""

    def settings(self) -> "type[BaseModel]":
        """Import the settings class."""
        module, name = self.settings_path.split(":")
        found: type[BaseModel] = getattr(import_module(module), name)
        return found

    def function(self) -> Callable[[Sequence[str]], int]:
        """Import the function that takes the arguments and returns the exit code."""
        if self.name is not None:
            return partial(run, self.name)
        module = import_module(self.script.removesuffix(".py").replace("/", "."))
        found: Callable[[Sequence[str]], int] = module.main
        return found


_AT_THE_ROOT = ("finetune", "main", "inference", "validation")
COMMANDS = (
    *(
        DocumentedCommand(
            f"{name}.py" if name in _AT_THE_ROOT else f"scripts/{name.replace('-', '_')}.py", command.settings, name
        )
        for name, command in INSTALLED.items()
    ),
    DocumentedCommand("scripts/make_digits.py", "tools.demo_data.settings:DigitsSettings"),
    DocumentedCommand("scripts/make_faces.py", "tools.demo_data.settings:FacesSettings"),
    DocumentedCommand("scripts/make_generated_digits.py", "tools.demo_data.settings:GeneratedDigitsSettings"),
    DocumentedCommand("scripts/make_base.py", "tools.demo_data.settings:BaseSettings"),
    DocumentedCommand("scripts/fuzz.py", "tools.fuzz.settings:FuzzSettings"),
    DocumentedCommand("scripts/torture.py", "tools.stress.settings:TortureSettings"),
    DocumentedCommand("scripts/simulate_choice.py", "tools.choice_simulation.settings:SimulationSettings"),
    DocumentedCommand("scripts/compare_versions.py", "tools.compare_versions.settings:CompareVersionsSettings"),
    DocumentedCommand("scripts/try_backbones.py", "tools.backbones.settings:BackboneSettings"),
    DocumentedCommand("scripts/benchmarks/training.py", "scripts.benchmarks.training:BenchSettings"),
    DocumentedCommand("scripts/benchmarks/averaging.py", "scripts.benchmarks.averaging:BenchSettings"),
    DocumentedCommand("scripts/benchmarks/votes.py", "scripts.benchmarks.votes:BenchSettings"),
    DocumentedCommand("scripts/benchmarks/curate.py", "scripts.benchmarks.curate:BenchSettings"),
    DocumentedCommand("scripts/benchmarks/pool.py", "scripts.benchmarks.pool:PoolBenchSettings"),
    DocumentedCommand("scripts/benchmarks/state.py", "scripts.benchmarks.state:StateBenchSettings"),
    DocumentedCommand("scripts/benchmarks/device.py", "scripts.benchmarks.device:DeviceBenchSettings"),
    DocumentedCommand("scripts/benchmarks/overheads.py", "scripts.benchmarks.overheads:BenchSettings"),
)


def find_command(words: Sequence[str]) -> tuple[DocumentedCommand, list[str]] | None:
    """Return the command that a command line calls, with its arguments; None if it calls none of ours.

    Args:
        words: the line's words: `python FILE.py …`, `soups NAME …` or `accelerate launch … FILE.py …`.
    """
    if not words:
        return None
    if words[0] == "soups" and len(words) > 1:
        named = [command for command in COMMANDS if command.name == words[1].replace("_", "-")]
        return (named[0], list(words[2:])) if named else None
    if words[0] not in ("python", "accelerate"):
        return None
    for place, word in enumerate(words):
        for command in COMMANDS:
            if word == command.script:
                return command, list(words[place + 1 :])
    return None
