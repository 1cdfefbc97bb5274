"""Settings classes to command-line flags.

Flags, `--config FILE.yaml`, environment variables and defaults meet here: a flag wins over the file, the file over the
environment, the environment over the default.
"""

import io
import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import redirect_stderr
from dataclasses import dataclass, field
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Generic, TypeVar, Union, get_args, get_origin

import tyro
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from soups.cli.usage_errors import find_mistake, value_error
from soups.core.errors import UsageError
from soups.files.config_files import Config, read_config, take_config

Settings = TypeVar("Settings", bound=BaseModel)
_Fields = dict[str, tuple[str | None, FieldInfo]]
"""Setting → the field of the settings class that groups it (None where it is a field itself), and its definition."""

_FLAG_WORDS = dict.fromkeys(("true", "1", "yes", "on"), True) | dict.fromkeys(("false", "0", "no", "off"), False)


def _parse_flag(words: list[str]) -> bool:
    value = _FLAG_WORDS.get(words[0].lower()) if words else True
    if value is None:
        raise ValueError("expected True or False, or the flag alone")
    return value


# A switch that takes no value (`--strict`) or one (`--strict True`).
Flag = tyro.conf.FlagConversionOff[
    Annotated[
        bool,
        tyro.constructors.PrimitiveConstructorSpec(
            nargs=(0, 1),
            metavar="[True|False]",
            instance_from_str=_parse_flag,
            is_instance=lambda value: isinstance(value, bool),
            str_from_instance=lambda value: [str(value)],
        ),
    ]
]


@dataclass(frozen=True)
class ParsedSettings(Generic[Settings]):
    """Validated settings, and the names of those that the user gave by flag, file or environment."""

    settings: Settings
    names: frozenset[str]
    config: Config | None = None
    """Settings from `--config`, without those that a flag overrides; None without a file."""
    sections: "Mapping[str, ParsedSettings[Settings]]" = field(default_factory=dict)
    """With the settings file of a run: model → its settings; flags win here, too."""


def parse(
    settings_class: type[Settings], arguments: Sequence[str], environment: Mapping[str, str], prog: str | None = None
) -> ParsedSettings[Settings]:
    """Return settings from flags, file, environment and defaults, in this order of precedence.

    Raises:
        UsageError: an unknown setting or a wrong value on the command line, in the file or in the environment.
    """
    fields = _flat_fields(settings_class)
    from_environment = {name: os.environ[key] for key, name in environment.items() if os.environ.get(key)}
    arguments, path, section = take_config(arguments)
    facts, with_sections = getattr(settings_class, "FACTS", {}), getattr(settings_class, "REPEATS_MODELS", False)
    config = read_config(path, section, fields, facts, with_sections) if path else None
    given = from_environment | (config.values if config else {})
    defaults = _build_settings(settings_class, fields, given, config)
    try:
        with redirect_stderr(io.StringIO()):  # The message is ours; tyro prints some errors even if told not to.
            parsed = tyro.cli(
                settings_class,
                args=arguments,
                default=defaults,
                prog=prog or Path(sys.argv[0]).name,
                config=(tyro.conf.OmitArgPrefixes,),
                console_outputs=False,
            )
    except SystemExit as error:

        def validate(values: dict[str, Any]) -> None:
            settings_class.model_validate(_nested(fields, given | values))

        definitions = {name: definition for name, (_, definition) in fields.items()}
        raise find_mistake(definitions, arguments, validate) from error
    flags = {token[2:].split("=")[0].replace("-", "_") for token in arguments if token.startswith("--")}
    names = frozenset(given.keys() | (flags & fields.keys()))
    sections = {}
    for model, own in config.sections.items() if config else ():
        groups = {name: fields[name][0] for name in flags & fields.keys()}
        from_flags = {
            name: getattr(getattr(parsed, group) if group else parsed, name) for name, group in groups.items()
        }
        values = _build_settings(settings_class, fields, given | own.values | from_flags, own.without(flags))
        sections[model] = ParsedSettings(values, names | own.values.keys())
    return ParsedSettings(parsed, names, config.without(flags) if config else None, sections)


def _flat_fields(settings_class: type[BaseModel]) -> _Fields:
    fields: _Fields = {}
    for name, definition in settings_class.model_fields.items():
        kind = definition.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            fields |= {inner: (name, own) for inner, own in kind.model_fields.items()}
        else:
            fields[name] = None, definition
    return fields


def _build_settings(
    settings_class: type[Settings], fields: _Fields, given: Mapping[str, Any], config: Config | None
) -> Settings:
    try:
        return settings_class.model_validate(_nested(fields, given))
    except ValidationError as error:
        raise _error_of_pydantic(error.errors(), fields, config) from error


def _nested(fields: _Fields, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings by group, as the settings class takes them."""
    nested: dict[str, Any] = {}
    for name, value in given.items():
        group, definition = fields[name]
        if isinstance(value, str) and _is_list(definition.annotation):
            value = (value,)  # A list of one value needs no brackets, as on the command line.
        (nested if group is None else nested.setdefault(group, {}))[name] = value
    return nested


def _is_list(annotation: Any) -> bool:
    """Return whether a setting is a list of any length, or None."""
    kinds = get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)
    return str not in kinds and any(get_origin(kind) is tuple and get_args(kind)[-1] is Ellipsis for kind in kinds)


def _error_of_pydantic(errors: Sequence[Any], fields: _Fields, config: Config | None) -> UsageError:
    """Return the first value that pydantic refused as a message with its place."""
    name = next((str(part) for part in reversed(errors[0]["loc"]) if part in fields), None)
    if name is None:  # Contradicting settings; pydantic's message names them.
        where = str(config.path) if config else "settings from the environment"
        return UsageError(f"{where}: {errors[0]['msg'].removeprefix('Value error, ')}")
    in_file = config is not None and name in config.lines
    where = f"{config.location(name)}: {name}" if config and in_file else f"setting {name} from the environment"
    return value_error(where, [error for error in errors if name in error["loc"]], repr(errors[0]["input"]))
