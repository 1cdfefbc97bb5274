"""The flags of a command as Markdown tables, read from its settings classes."""

import inspect
import re
import types
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from soups.cli.help import field_texts

_NAMES = {str: "text", int: "integer", float: "number", bool: "switch"}


def flag_tables(settings: type[BaseModel]) -> str:
    """Return a table of the command's own flags, then one for each group of settings that it shares with others."""
    own = [(name, field) for name, field in settings.model_fields.items() if _group(field) is None]
    parts = [_table(settings, own)] if own else []
    for name, field in settings.model_fields.items():
        group = _group(field)
        if group is not None:
            parts.append(f"## {name.replace('_', ' ').capitalize()}\n\n{_text(group)}\n\n{_table(group)}")
    return "\n\n".join(parts)


def describe_type(kind: Any) -> str:
    """Return a type in words: `integer`, `text …`, or the choices."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Literal:
        return " \\| ".join(f"`{choice}`" for choice in arguments)
    if origin in (Union, types.UnionType):
        words = [describe_type(one) for one in arguments if one is not type(None)]
        return " or ".join(dict.fromkeys(words))
    if origin is tuple:
        if arguments[-1] is Ellipsis:
            return f"{describe_type(arguments[0])} …"
        return " ".join(describe_type(one) for one in arguments)
    if hasattr(kind, "__metadata__"):
        return describe_type(arguments[0])
    return _NAMES.get(kind, "path" if getattr(kind, "__name__", "") == "Path" else "text")


def in_markdown(text: str) -> str:
    """Return a docstring's text for a table's cell: flags as code, nothing read as HTML, emphasis or a column."""
    parts = text.replace("|", "\\|").split("`")
    parts[::2] = [
        re.sub(r"(?<![\w-])(--[a-z][\w-]*)", r"`\1`", re.sub(r"([*_])", r"\\\1", part.replace("<", "&lt;")))
        for part in parts[::2]
    ]
    return "`".join(parts)


def _group(field: FieldInfo) -> type[BaseModel] | None:
    kind = field.annotation
    return kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None


def _text(settings: type[BaseModel]) -> str:
    return inspect.cleandoc(settings.__doc__ or "")


def _table(settings: type[BaseModel], fields: list[tuple[str, FieldInfo]] | None = None) -> str:
    texts = field_texts(settings)
    rows = ["| flag | value | default | |", "| --- | --- | --- | --- |"]
    for name, field in list(settings.model_fields.items()) if fields is None else fields:
        text = in_markdown(texts.get(name, ""))
        flag = f"`--{name.replace('_', '-')}`"
        rows.append(f"| {flag} | {describe_type(field.annotation)} | {_default(field)} | {text} |")
    return "\n".join(rows)


def _default(field: FieldInfo) -> str:
    value = field.default
    if value is None or value is PydanticUndefined or value == ():
        return ""
    if isinstance(value, tuple):
        value = " ".join(f"{one:.4g}" if isinstance(one, float) else str(one) for one in value)
    return f"`{value}`"
