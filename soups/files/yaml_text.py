"""YAML with scalars as text: YAML 1.1 reads 1e-5 as text and `no` as false, so the settings classes convert them."""

from pathlib import Path
from typing import Any

import yaml

from soups.core.errors import UsageError


def parse_with_lines(path: Path, missing: str) -> yaml.MappingNode | None:
    """Return the mapping node of a YAML file, which has line numbers; None for an empty file.

    Args:
        path: the file.
        missing: the line `expected` of the error for a missing file.

    Raises:
        UsageError: the file is missing, not readable, or not a mapping.
    """
    try:
        document = yaml.compose(path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
    except FileNotFoundError as error:
        raise UsageError(f"{path}: no such file", expected=missing) from error
    except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
        raise UsageError(f"{path}: not readable YAML", found=" ".join(str(error).split())) from error
    if document is not None and not isinstance(document, yaml.MappingNode):
        raise UsageError(f"{path}: not a mapping of settings to values", expected="lines such as `lr: 1e-5`")
    return document


def to_plain_value(node: yaml.Node) -> Any:
    """Convert a node to dicts, lists and text; an empty or `null` scalar becomes None."""
    if isinstance(node, yaml.SequenceNode):
        return [to_plain_value(item) for item in node.value]
    if isinstance(node, yaml.MappingNode):
        return {str(key.value): to_plain_value(value) for key, value in node.value}
    quoted = getattr(node, "style", None) in {"'", '"'}
    return None if not quoted and node.value in {"", "null", "~", "None"} else node.value


class _Dumper(yaml.SafeDumper):
    """Quotes the text `None`, which `to_plain_value` would read as no value."""


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.Node:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="'" if text == "None" else None)


_Dumper.add_representer(str, _represent_text)


def dump_yaml(values: dict[str, Any]) -> str:
    """Return a mapping as YAML, a line for each key in sorted order, that `to_plain_value` reads as text."""
    return yaml.dump(values, Dumper=_Dumper, sort_keys=True, allow_unicode=True)


def dump_section(name: str, values: dict[str, Any]) -> str:
    """Return a section of a settings file in flow style: `name: {key: value, …}`, continuation lines indented."""
    text = yaml.dump(values, Dumper=_Dumper, sort_keys=False, default_flow_style=True, width=115, allow_unicode=True)
    return f"{name}: {text}"
