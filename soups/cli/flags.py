"""From settings classes to flags, and from exceptions to messages and exit codes.

A command is a settings class and a function. Flags, `--config FILE.yaml`, environment variables and defaults meet
here: a flag wins over the file, the file over the environment, that over the default.
"""

import atexit
import gc
import inspect
import logging
import os
import re
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Generic, NoReturn, TypeVar, Union, get_args, get_origin

import tyro
from pydantic import BaseModel, ValidationError

from soups.core.errors import UsageError, UserError, did_you_mean
from soups.core.plugins import load_plugins
from soups.core.signals import raise_interruption
from soups.files.atomic import explain_os_error
from soups.files.config_files import Config, read_config, take_config

Settings = TypeVar("Settings", bound=BaseModel)

logger = logging.getLogger("soups")

_SELDOM = 500_000
"""New objects between two collections of rubbish; Python's own 700 cost a second while torch is loaded."""
_TRUE, _FALSE = {"true", "1", "yes", "on"}, {"false", "0", "no", "off"}
_COMMON_FLAGS = (
    "--config FILE.yaml gives any of these settings from a file, --config FILE.yaml#SECTION also those of a section "
    "in it; flags win over it. "
    "--debug shows the traceback of an error."
)


def _parse_flag(words: list[str]) -> bool:
    if not words or words[0].lower() in _TRUE:
        return True
    if words[0].lower() in _FALSE:
        return False
    raise ValueError("expected True or False, or the flag alone")


# A switch that works bare (`--strict`) and with a value (`--strict True`).
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
    """Validated settings, and the names of those that the user gave (by flag, file or environment)."""

    settings: Settings
    names: frozenset[str]
    config: Config | None = None
    """What a file gave of them, where one was named; without what flags said instead."""


def run(
    settings_class: type[Settings],
    command: Callable[[ParsedSettings[Settings]], None],
    argv: Sequence[str] | None = None,
    *,
    environment: Mapping[str, str] | None = None,
) -> int:
    """Parse the command line, run the command, and turn what goes wrong into one message.

    Args:
        settings_class: a frozen pydantic class; fields that are such classes themselves become groups of flags
            without a prefix. Its docstring is the help text.
        command: what to do; returns when it is done.
        argv: the arguments without the program's name; those of the process by default.
        environment: environment variable → setting that it stands for.

    Returns:
        The exit code: 0 done, 2 usage, 3 data or checkpoint, 4 environment, 5 some failed, 130 interrupted, 143
        terminated.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in arguments
    arguments = [argument for argument in arguments if argument != "--debug"]
    set_up_logging(debug)
    if argv is None:
        gc.set_threshold(_SELDOM)
    config = None
    try:
        with raise_interruption(), _explained_refusals():
            load_plugins()
            given = parse(settings_class, arguments, environment or {})
            config = given.config
            command(given)
    except UserError as error:
        if debug:
            raise
        place = config.place_of(error) if config is not None else None
        print(f"error: {place}: {error}" if place else f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("interrupted; what was finished is kept", file=sys.stderr)
        return 130
    except BrokenPipeError:  # The reader of our output (such as `head`) has gone; that is not an error.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except SystemExit as error:
        return error.code if isinstance(error.code, int) else 2
    return 0


def leave(code: int) -> NoReturn:
    """End the process with an exit code, without taking apart what it has loaded: that costs torch half a second."""
    if threading.active_count() > 1:  # Somebody's thread has work to finish: the ordinary way waits for it.
        sys.exit(code)
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):  # A reader that has gone is no error, as in `run`.
            stream.flush()
    os._exit(code)


@contextmanager
def _explained_refusals() -> Iterator[None]:
    """A full disk or a missing permission that surfaced in a library is the user's to mend, like any other."""
    try:
        yield
    except OSError as error:
        explained = (
            explain_os_error(error, error.filename or "a file") if not isinstance(error, BrokenPipeError) else None
        )
        if explained is None:
            raise
        raise explained from error


def set_up_logging(debug: bool = False) -> None:
    """Send the toolkit's notices to stderr as plain lines; once per process."""
    logger.setLevel(logging.DEBUG if debug else logging.INFO)
    logger.propagate = False
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(message)s"))
    logger.handlers = [handler]


def parse(
    settings_class: type[Settings], arguments: Sequence[str], environment: Mapping[str, str]
) -> ParsedSettings[Settings]:
    """Settings from flags, file, environment and defaults, in this order of precedence.

    Raises:
        UsageError: an unknown key or a value of the wrong kind in the file or the environment.
        SystemExit: `--help` (0), or an unknown flag or a wrong value on the command line (2).
    """
    groups = _flat_fields(settings_class)
    from_environment = {
        name: os.environ[variable] for variable, name in environment.items() if os.environ.get(variable)
    }
    arguments, path, section = take_config(arguments)
    config = read_config(path, section, groups) if path else None
    given = {**from_environment, **(config.values if config else {})}
    defaults = _build(settings_class, groups, given, config)
    parsed = tyro.cli(
        settings_class,
        args=arguments,
        default=defaults,
        prog=Path(sys.argv[0]).name,
        description=f"{inspect.cleandoc(settings_class.__doc__ or '')}\n\n{_COMMON_FLAGS}",
        config=(tyro.conf.OmitArgPrefixes,),
    )
    flags = {token[2:].split("=")[0].replace("-", "_") for token in arguments if token.startswith("--")}
    return ParsedSettings(
        parsed, frozenset(set(given) | (flags & set(groups))), config.without(flags) if config else None
    )


def _flat_fields(settings_class: type[BaseModel]) -> dict[str, str | None]:
    """Setting → the field of `settings_class` that groups it, or None where it is a field itself."""
    fields: dict[str, str | None] = {}
    for name, field in settings_class.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            fields |= dict.fromkeys(kind.model_fields, name)
        else:
            fields[name] = None
    return fields


def _build(
    settings_class: type[Settings], groups: Mapping[str, str | None], given: Mapping[str, Any], config: Config | None
) -> Settings:
    nested: dict[str, Any] = {}
    for name, value in given.items():
        group = groups[name]
        owner = settings_class if group is None else settings_class.model_fields[group].annotation
        assert owner is not None
        if isinstance(value, str) and _takes_any_number(owner.model_fields[name].annotation):
            value = (value,)  # As a flag does, whose one value needs no brackets either.
        (nested if group is None else nested.setdefault(group, {}))[name] = value
    try:
        return settings_class.model_validate(nested)
    except ValidationError as error:
        raise _explained(error.errors()[0], groups, config) from error


def _takes_any_number(annotation: Any) -> bool:
    """Whether a setting is a list of any length, or None."""
    kinds = get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)
    return str not in kinds and any(get_origin(kind) is tuple and get_args(kind)[-1] is Ellipsis for kind in kinds)


def _explained(error: Any, groups: Mapping[str, str | None], config: Config | None) -> UsageError:
    """What pydantic found wrong first, with the place where it was given."""
    name = next((str(part) for part in reversed(error["loc"]) if part in groups), None)
    if name is None:  # Settings that contradict each other; the message names them.
        where = str(config.path) if config else "settings from the environment"
        return UsageError(f"{where}: {error['msg'].removeprefix('Value error, ')}")
    in_file = config is not None and name in config.lines
    where = f"{config.place(name)}: {name}" if config and in_file else f"setting {name} from the environment"
    choices = re.findall("'([^']*)'", error.get("ctx", {}).get("expected", ""))
    hint = did_you_mean(str(error["input"]), choices)
    expected = error["msg"].removeprefix("Value error, ")
    return UsageError(where, expected=expected, found=repr(error["input"]), next_step=hint)
