"""The flags of a command as Markdown tables, read from its settings classes."""

import ast
import inspect
import re
import types
from collections.abc import Iterator
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

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


def flag_names(settings: type[BaseModel]) -> set[str]:
    """Return every flag that the command takes, with dashes."""
    names = {"help", "config", "debug"}
    for name, field in settings.model_fields.items():
        group = _group(field)
        names |= {name} if group is None else set(group.model_fields)
        aliases = [alias for entry in field.metadata for alias in getattr(entry, "aliases", None) or ()]
        names |= {alias.lstrip("-") for alias in aliases}
    return {"--" + name.replace("_", "-") for name in names}


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


def field_texts(settings: type[BaseModel]) -> dict[str, str]:
    """Return the docstring below each field, of the class and of those that it inherits from."""
    texts: dict[str, str] = {}
    for kind in reversed(settings.__mro__):
        if not (issubclass(kind, BaseModel) and kind is not BaseModel):
            continue
        body = ast.parse(inspect.cleandoc("\n" + inspect.getsource(kind))).body[0]
        assert isinstance(body, ast.ClassDef)
        texts |= dict(_documented(body))
    return texts


def _documented(body: ast.ClassDef) -> Iterator[tuple[str, str]]:
    for statement, after in zip(body.body, body.body[1:], strict=False):
        named = isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name)
        if named and isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
            assert isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name)
            yield statement.target.id, " ".join(str(after.value.value).split())


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
