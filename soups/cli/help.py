"""The text of `--help`, made from a settings class: description, examples, and flags by group."""

import ast
import inspect
import shutil
import sys
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

import tyro
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
_GENERAL = (
    (
        "--config FILE.yaml[#SECTION]",
        "Read settings from a YAML file or a section of it; flags win over the file.",
    ),
    ("--debug", "Show the traceback of an error."),
    ("-h, --help", "Show this help and exit."),
)


@dataclass(frozen=True)
class _Flag:
    name: str
    field: FieldInfo
    description: str
    rare: bool


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
    own, groups = _flags_of(settings_class)
    variables = {setting: variable for variable, setting in (environment or {}).items()}
    positional = "".join(f" [{_type_text(flag)}]" for flag in own if _is_positional(flag.field))
    parts = [f"usage: {prog}{positional} [flags]", _wrapped(inspect.cleandoc(settings_class.__doc__ or ""), width)]
    if examples:
        parts.append("\n".join(["examples:", *(f"  {prog} {example}".rstrip() for example in examples)]))
    sections = [("flags of this command", own), *groups]
    for title, flags in sections:
        rows = [_row(flag, variables) for flag in flags if not flag.rare]
        parts += [_section(title, rows, width)] if rows else []
    rare = [_row(flag, variables) for _, flags in sections for flag in flags if flag.rare]
    parts += [_section("rarely needed", rare, width)] if rare else []
    parts.append(_section("general", list(_GENERAL), width))
    return "\n\n".join(part for part in parts if part)


def _flags_of(settings_class: type[BaseModel]) -> tuple[list[_Flag], list[tuple[str, list[_Flag]]]]:
    """Return the command's own flags, and the flags of each group with its title."""
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
    return own, [groups[name] for name in order]


def _flag(settings_class: type[BaseModel], name: str, field: FieldInfo) -> _Flag:
    return _Flag(name, field, field_texts(settings_class).get(name, ""), name in getattr(settings_class, "RARE", ()))


def flag_names(settings_class: type[BaseModel]) -> list[str]:
    """Return every flag of a command with dashes, aliases and the general flags included."""
    names = ["--config", "--debug", "--help"]
    own, groups = _flags_of(settings_class)
    for flag in [*own, *(flag for _, flags in groups for flag in flags)]:
        names += [f"--{flag.name.replace('_', '-')}", *_aliases(flag.field)]
    return names


@cache
def field_texts(settings_class: type[BaseModel]) -> dict[str, str]:
    """Return the docstring below each attribute, of base classes too."""
    found: dict[str, str] = {}
    for each in reversed(settings_class.__mro__):
        if not issubclass(each, BaseModel) or each is BaseModel:
            continue
        try:
            tree = ast.parse(textwrap.dedent(inspect.getsource(each)))
        except (OSError, TypeError):  # A class that was made at run time has no source.
            continue
        body = tree.body[0].body  # type: ignore[attr-defined]
        for statement, following in pairwise(body):
            if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
                value = following.value if isinstance(following, ast.Expr) else None
                if isinstance(value, ast.Constant) and isinstance(value.value, str):
                    found[statement.target.id] = " ".join(value.value.split())
    return found


def _row(flag: _Flag, variables: Mapping[str, str]) -> tuple[str, str]:
    """Return a flag as the user types it, and its description with the default."""
    text = flag.description
    default = _default_text(flag.field)
    if default is not None and "default" not in text:
        text = f"{text} (default: {default})".lstrip()
    if flag.name in variables:
        text = f"{text} (environment: {variables[flag.name]})"
    kind = _type_text(flag)
    if _is_positional(flag.field):
        return kind, text
    names = [f"--{flag.name.replace('_', '-')}", *_aliases(flag.field)]
    return f"{', '.join(names)} {kind}".rstrip(), text


def _default_text(field: FieldInfo) -> str | None:
    value = field.default
    if value is None or value is False or value == () or field.is_required():
        return None
    if isinstance(value, tuple):
        return " ".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def _type_text(flag: _Flag) -> str:
    """Return what a flag takes, as a person would write it: `NAME …`, `N`, `{a,b}`; nothing for a switch."""
    if flag.field.annotation is bool and flag.field.default is True:
        return "[True|False]"
    return _type_of(flag.field.annotation, _metavar(flag.name))


def _type_of(annotation: Any, metavar: str) -> str:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return "{" + ",".join(map(str, arguments)) + "}"
    if hasattr(annotation, "__metadata__"):
        return _type_of(arguments[0], metavar)
    if origin in (Union, UnionType):
        kinds = [each for each in arguments if each is not NoneType]
        several = [each for each in kinds if get_origin(each) is tuple]
        texts = dict.fromkeys(_type_of(each, metavar) for each in several or kinds)
        return "|".join(text.strip("{}") for text in texts) if len(texts) > 1 else next(iter(texts))
    if origin is tuple:
        if arguments[-1] is Ellipsis:
            return f"{_type_of(arguments[0], metavar)} …"
        return "LOW HIGH" if len(arguments) == 2 else " ".join(_type_of(each, metavar) for each in arguments)
    return {bool: "", int: "N", float: "X"}.get(annotation, metavar)


def _metavar(name: str) -> str:
    last = name.rsplit("_", 1)[-1]
    for metavar, names in _METAVARS.items():
        if name in names or last in names:
            return metavar
    return last.upper()


def _is_positional(field: FieldInfo) -> bool:
    return tyro.conf.Positional in field.metadata or any("POSITIONAL" in repr(each).upper() for each in field.metadata)


def _aliases(field: FieldInfo) -> list[str]:
    return [alias for each in field.metadata for alias in (getattr(each, "aliases", None) or ())]


def _section(title: str, rows: Sequence[tuple[str, str]], width: int) -> str:
    lines = [f"{title[:1].upper()}{title[1:]}"]
    for left, text in rows:
        filled = textwrap.wrap(text, max(width - _COLUMN, 30), break_on_hyphens=False) or [""]
        head = f"  {left}"
        if len(head) > _COLUMN - 2:
            lines.append(head)
        else:
            lines.append(f"{head:{_COLUMN}}{filled.pop(0)}".rstrip())
        lines += [f"{'':{_COLUMN}}{line}" for line in filled if line]
    return "\n".join(lines)


def _wrapped(text: str, width: int) -> str:
    return "\n\n".join(
        textwrap.fill(" ".join(paragraph.split()), width, break_on_hyphens=False) for paragraph in text.split("\n\n")
    )
