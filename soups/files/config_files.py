"""Files of settings, `--config FILE.yaml`: what they give, and in which lines it stands."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from soups.core.errors import UnknownName, UsageError, did_you_mean
from soups.files.yaml_text import parse_with_lines, to_plain_value


@dataclass(frozen=True)
class Config:
    """What a file of settings gives."""

    path: Path
    values: dict[str, Any] = field(default_factory=dict)
    """Setting → value, whose scalars are text."""
    lines: dict[str, int] = field(default_factory=dict)
    """Setting → the line that it stands in, counted from 1."""

    def place(self, setting: str) -> str:
        """File and line of a setting; the file alone where it does not give it."""
        return f"{self.path}, line {self.lines[setting]}" if setting in self.lines else str(self.path)

    def without(self, settings: Collection[str]) -> "Config":
        """What is left when others say some settings."""
        values = {name: value for name, value in self.values.items() if name not in settings}
        return Config(self.path, values, {name: self.lines[name] for name in values})

    def place_of(self, error: Exception) -> str | None:
        """Where the name stands that nobody knows; None where the file does not give it, or in several lines."""
        if not isinstance(error, UnknownName):
            return None
        places = [
            self.place(setting)
            for setting, value in self.values.items()
            if value == error.name or (isinstance(value, list) and error.name in value)
        ]
        return places[0] if len(places) == 1 else None


def take_config(arguments: Sequence[str]) -> tuple[list[str], Path | None, str | None]:
    """The other arguments, and file and section that `--config FILE.yaml#SECTION` names.

    Raises:
        UsageError: the flag lacks its file.
    """
    rest, named, tokens = [], None, iter(arguments)
    for token in tokens:
        if token == "--config":
            value = next(tokens, None)
            if value is None:
                raise UsageError("--config lacks its file", expected="--config FILE.yaml")
            named = value
        elif token.startswith("--config="):
            named = token.removeprefix("--config=")
        else:
            rest.append(token)
    if named is None:
        return rest, None, None
    file, sign, section = named.rpartition("#")
    # A file may have the sign in its name.
    return (rest, Path(named), None) if not sign or Path(named).exists() else (rest, Path(file), section)


def read_config(path: Path, section: str | None, known: Collection[str]) -> Config:
    """Keys and values of a YAML file; those of a section win over those beside it.

    Args:
        path: the file.
        section: one of its sections; None: it has none to be read.
        known: the names of all settings, with underscores.

    Raises:
        UsageError: the file is not readable, or has no such section, an unknown key or one that is given twice.
    """
    document = parse_with_lines(path, "--config FILE.yaml, or FILE.yaml#SECTION")
    pairs = list(document.value) if document is not None else []
    sections = {
        str(key.value): value
        for key, value in pairs
        if isinstance(value, yaml.MappingNode) and _setting(key) not in known
    }
    if section is not None and section not in sections:
        found = f"the sections {', '.join(sections)}" if sections else "no sections"
        raise UsageError(f"{path}: no section {section!r}", expected=f"--config {path}#SECTION", found=found)
    if section is not None:
        pairs = [(key, value) for key, value in pairs if str(key.value) not in sections]
    config = Config(path)
    for level in (pairs, sections[section].value if section is not None else ()):
        lines: dict[str, int] = {}
        for key, value in level:
            name, line = _setting(key), key.start_mark.line + 1
            if name not in known:
                raise _unknown(path, key, known, sections)
            if name in lines:
                problem = f"{path}, line {line}: {name} is given in line {lines[name]} already"
                raise UsageError(problem, next_step="remove one of the two lines")
            lines[name] = line
            config.values[name] = to_plain_value(value)
        config.lines.update(lines)
    return config


def _unknown(path: Path, key: yaml.Node, known: Collection[str], sections: Mapping[str, Any]) -> UsageError:
    hint = did_you_mean(_setting(key), known, otherwise="see --help for the settings")
    if str(key.value) in sections:
        hint = f"it is a section: --config {path}#{key.value}"
    return UsageError(f"{path}, line {key.start_mark.line + 1}: unknown setting {key.value!r}", next_step=hint)


def _setting(key: yaml.Node) -> str:
    return str(key.value).replace("-", "_")
