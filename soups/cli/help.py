"""The text of `--help`, made from a settings class: description, examples, and flags by group."""

import inspect
import shutil
import sys
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

import tyro
from docstring_parser import DocstringStyle, parse_from_object
from pydantic import BaseModel
from pydantic.fields import FieldInfo

_COLUMN = 26
"""Where the descriptions begin."""
_WIDEST = 110
_GROUPS = ("run", "data", "model", "training", "maps", "evaluation", "runtime", "launch", "ranges", "cache")
"""Groups in the order of need; a command's own flags come before, and other groups after them."""
_METAVARS = {
    "FILE": ("labels", "groups", "relabel", "output", "planted", "sample_submission", "ground_truth", "submission"),
    "DIR": ("location", "folder", "folders", "pool", "target", "leave_out"),
    "NAME": ("name", "names", "soup", "start", "rebuild"),
    "MODEL": ("model", "models", "ingredients", "members", "voting", "ensemble"),
    "NAME=VALUE": ("options", "args"),
    "N,N-N": ("i", "seeds"),
}
_GENERAL = [
    ("--config FILE.yaml[#SECTION]", "Read settings from a YAML file or a section of it; flags win over the file."),
    ("--wide", "Print tables in one piece, wider than the terminal."),
    ("--debug", "Show the traceback of an error."),
    ("-h, --help", "Show this help and exit."),
]


@dataclass(frozen=True)
class _Flag:
    name: str
    field: FieldInfo
    description: str
    rare: bool

    @property
    def names(self) -> list[str]:
        """Return the flag as the user types it, and its aliases."""
        aliases = [alias for each in self.field.metadata for alias in (getattr(each, "aliases", None) or ())]
        return [f"--{self.name.replace('_', '-')}", *aliases]

    @property
    def positional(self) -> bool:
        """Return whether the value is given without the flag's name."""
        metadata = self.field.metadata
        return tyro.conf.Positional in metadata or any("POSITIONAL" in repr(each).upper() for each in metadata)

    @property
    def kind(self) -> str:
        """Return what the flag takes, as a person would write it: `NAME …`, `N`, `{a,b}`; nothing for a switch."""
        if self.field.annotation is bool and self.field.default is True:
            return "[True|False]"
        last = self.name.rsplit("_", 1)[-1]
        known = (metavar for metavar, names in _METAVARS.items() if self.name in names or last in names)
        return _type_text(self.field.annotation, next(known, last.upper()))


def format_help(
    settings_class: type[BaseModel],
    prog: str | None = None,
    examples: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
    width: int | None = None,
) -> str:
    """Return the help text of a command, wrapped at the terminal's width (at most 110 columns).

    Args:
        settings_class: the command's settings; the docstring describes the command, attribute docstrings the flags. A
            class variable `RARE`, a tuple of names, moves flags to the last group.
        prog: the command as the user types it; `python <script>` by default.
        examples: arguments of example commands.
        environment: environment variable → setting.
        width: columns; those of the terminal by default.
    """
    width = min(width or shutil.get_terminal_size().columns, _WIDEST)
    prog = prog or f"python {Path(sys.argv[0]).name}"
    sections = _sections_of(settings_class)
    variables = {setting: variable for variable, setting in (environment or {}).items()}
    positional = "".join(f" [{flag.kind}]" for flag in sections[0][1] if flag.positional)
    description = inspect.cleandoc(settings_class.__doc__ or "").split("\n\n")
    parts = [f"usage: {prog}{positional} [flags]", *(_fill(paragraph, width) for paragraph in description)]
    if examples:
        parts.append("\n".join(["examples:", *(f"  {prog} {example}".rstrip() for example in examples)]))
    rows = [(title, [_row(flag, variables) for flag in flags if not flag.rare]) for title, flags in sections]
    rows.append(("rarely needed", [_row(flag, variables) for _, flags in sections for flag in flags if flag.rare]))
    parts += [_section(title, each, width) for title, each in [*rows, ("general", _GENERAL)] if each]
    return "\n\n".join(part for part in parts if part)


def _sections_of(settings_class: type[BaseModel]) -> list[tuple[str, list[_Flag]]]:
    """Return titles and flags: the command's own flags, then each group in the order of need."""
    own, groups = [], {}
    for name, field in settings_class.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            paragraph = " ".join(inspect.cleandoc(kind.__doc__ or name).split("\n\n")[0].split())
            title = paragraph.split(". ")[0].rstrip(".")
            flags = [_flag(kind, *each) for each in kind.model_fields.items()]
            groups[name] = (f"{name}: {title[:1].lower()}{title[1:]}", flags)
        else:
            own.append(_flag(settings_class, name, field))
    order = sorted(groups, key=lambda name: _GROUPS.index(name) if name in _GROUPS else len(_GROUPS))
    return [("flags of this command", own), *(groups[name] for name in order)]


def _flag(settings_class: type[BaseModel], name: str, field: FieldInfo) -> _Flag:
    return _Flag(name, field, field_texts(settings_class).get(name, ""), name in getattr(settings_class, "RARE", ()))


def flag_names(settings_class: type[BaseModel]) -> list[str]:
    """Return every flag of a command with dashes, aliases and the general flags included."""
    flags = [flag for _, flags in _sections_of(settings_class) for flag in flags]
    return ["--config", "--debug", "--help", "--wide", *(name for flag in flags for name in flag.names)]


@cache
def field_texts(settings_class: type[BaseModel]) -> dict[str, str]:
    """Return the docstring below each attribute, of base classes too."""
    texts: dict[str, str] = {}
    for each in reversed(settings_class.__mro__):
        if issubclass(each, BaseModel) and each is not BaseModel:
            attributes = parse_from_object(each, DocstringStyle.GOOGLE).params
            texts |= {attribute.arg_name: " ".join((attribute.description or "").split()) for attribute in attributes}
    return texts


def _row(flag: _Flag, variables: Mapping[str, str]) -> tuple[str, str]:
    """Return a flag as the user types it, and its description with the default."""
    text, value = flag.description, flag.field.default
    # A default that is empty or False goes without saying.
    if not (value is None or value is False or value == () or flag.field.is_required() or "default" in text):
        if isinstance(value, float):
            value = f"{value:g}"
        text = f"{text} (default: {' '.join(map(str, value)) if isinstance(value, tuple) else value})".lstrip()
    if flag.name in variables:
        text = f"{text} (environment: {variables[flag.name]})"
    return flag.kind if flag.positional else f"{', '.join(flag.names)} {flag.kind}".rstrip(), text


def _type_text(annotation: Any, metavar: str) -> str:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return "{" + ",".join(map(str, arguments)) + "}"
    if hasattr(annotation, "__metadata__"):
        return _type_text(arguments[0], metavar)
    if origin in (Union, UnionType):
        kinds = [each for each in arguments if each is not NoneType]
        several = [each for each in kinds if get_origin(each) is tuple]
        texts = list(dict.fromkeys(_type_text(each, metavar) for each in several or kinds))
        return "|".join(text.strip("{}") for text in texts) if len(texts) > 1 else texts[0]
    if origin is tuple:
        if arguments[-1] is Ellipsis:
            return f"{_type_text(arguments[0], metavar)} …"
        return "LOW HIGH" if len(arguments) == 2 else " ".join(_type_text(each, metavar) for each in arguments)
    return {bool: "", int: "N", float: "X"}.get(annotation, metavar)


def _section(title: str, rows: Sequence[tuple[str, str]], width: int) -> str:
    """Return a title and its rows: the flags in the first column, the wrapped descriptions in the second."""
    lines = [f"{title[:1].upper()}{title[1:]}"]
    for left, text in rows:
        filled = textwrap.wrap(text, max(width - _COLUMN, 30), break_on_hyphens=False)
        head = f"  {left}"
        if len(head) <= _COLUMN - 2 and filled:
            head = f"{head:{_COLUMN}}{filled.pop(0)}"
        lines += [head, *(f"{'':{_COLUMN}}{line}" for line in filled)]
    return "\n".join(lines)


def _fill(paragraph: str, width: int) -> str:
    return textwrap.fill(" ".join(paragraph.split()), width, break_on_hyphens=False)
