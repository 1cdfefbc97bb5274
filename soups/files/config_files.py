"""Settings files, `--config FILE.yaml[#SECTION]`: their values with line numbers for messages."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import yaml

from soups.core.errors import UnknownName, UsageError, did_you_mean
from soups.files.yaml_text import parse_with_lines, to_plain_value

VERSIONS = "versions"
"""Key by which the settings file of a run is known."""


@dataclass(frozen=True)
class Config:
    """The settings of a file."""

    path: Path
    values: dict[str, Any] = field(default_factory=dict)
    """Setting → value; scalars are text."""
    lines: dict[str, int] = field(default_factory=dict)
    """Setting → line number, counted from 1."""
    sections: dict[str, "Config"] = field(default_factory=dict)
    """Of a run's settings file that is read as a whole: model → its settings."""

    def location(self, setting: str) -> str:
        """Return file and line of a setting; the file alone if it does not have the setting."""
        return f"{self.path}, line {self.lines[setting]}" if setting in self.lines else str(self.path)

    def without(self, settings: Collection[str]) -> "Config":
        """Return the config without some settings, such as those that flags override."""
        values = {name: value for name, value in self.values.items() if name not in settings}
        return Config(self.path, values, {name: self.lines[name] for name in values}, self.sections)

    def locate_unknown_name(self, error: Exception) -> str | None:
        """Return file and line of the name that an `UnknownName` reports; None unless exactly one line has it."""
        if not isinstance(error, UnknownName):
            return None
        locations = [
            self.location(setting)
            for setting, value in self.values.items()
            if value == error.name or (isinstance(value, list) and error.name in value)
        ]
        return locations[0] if len(locations) == 1 else None


def take_config(arguments: Sequence[str]) -> tuple[list[str], Path | None, str | None]:
    """Split `--config FILE.yaml#SECTION` off a command line: return the other arguments, file and section.

    Raises:
        UsageError: the flag has no value.
    """
    rest, value, tokens = [], None, iter(arguments)
    for token in tokens:
        if token == "--config":
            value = next(tokens, None)
            if value is None:
                raise UsageError("--config lacks its file", expected="--config FILE.yaml")
        elif token.startswith("--config="):
            value = token.removeprefix("--config=")
        else:
            rest.append(token)
    if value is None:
        return rest, None, None
    file, sign, section = value.rpartition("#")
    # The name of an existing file may contain the sign.
    return (rest, Path(value), None) if not sign or Path(value).exists() else (rest, Path(file), section)


def read_config(
    path: Path,
    section: str | None,
    known: Collection[str],
    facts: Mapping[str, str] = MappingProxyType({}),
    with_sections: bool = False,
) -> Config:
    """Read the settings of a YAML file; the settings of the section override those at the top level.

    Args:
        path: the file.
        section: name of a section (a mapping whose key is not a setting); None reads the top level only.
        known: the names of all settings, with underscores.
        facts: keys of a run's settings file that are no settings, with the setting that each gives; without one they
            are ignored, and so are the sections of such a file if none is named.
        with_sections: read the sections of a run's settings file too if none is named.

    Raises:
        UsageError: the file is not readable, lacks the section, or has an unknown or repeated key.
    """
    document = parse_with_lines(path, "--config FILE.yaml, or FILE.yaml#SECTION")
    pairs = list(document.value) if document is not None else []
    is_record = VERSIONS in facts and any(_setting_name(key) == VERSIONS for key, _ in pairs)
    if is_record:
        for key, _ in pairs:
            key.value = facts.get(_setting_name(key), key.value)
        pairs = [pair for pair in pairs if pair[0].value]
    sections = {
        str(key.value): value
        for key, value in pairs
        if isinstance(value, yaml.MappingNode) and _setting_name(key) not in known
    }
    if section is not None and section not in sections:
        found = f"the sections {', '.join(sections)}" if sections else "no sections"
        raise UsageError(f"{path}: no section {section!r}", expected=f"--config {path}#SECTION", found=found)
    if section is not None or is_record:
        pairs = [(key, value) for key, value in pairs if str(key.value) not in sections]
    config = Config(path)
    for level in (pairs, sections[section].value if section is not None else ()):
        _read_level(config, level, known, sections)
    if is_record and with_sections and section is None:
        for name, node in sections.items():
            config.sections[name] = Config(path)
            _read_level(config.sections[name], node.value, known, sections)
    return config


def _read_level(config: Config, pairs: Collection[Any], known: Collection[str], sections: Collection[str]) -> None:
    """Add the settings of the top level, or of a section, to a config."""
    path, lines = config.path, dict[str, int]()
    for key, value in pairs:
        name, line = _setting_name(key), key.start_mark.line + 1
        if name not in known:
            hint = did_you_mean(name, known, otherwise="see --help for the settings")
            if str(key.value) in sections:
                hint = f"to read this section, use --config {path}#{key.value}"
            raise UsageError(f"{path}, line {line}: unknown setting {key.value!r}", next_step=hint)
        if name in lines:
            problem = f"{path}, line {line}: {name} is already set in line {lines[name]}"
            raise UsageError(problem, next_step="remove one of the two lines")
        lines[name] = line
        config.values[name] = to_plain_value(value)
    config.lines.update(lines)


def _setting_name(key: yaml.Node) -> str:
    return str(key.value).replace("-", "_")
