"""YAML whose scalars stay text: 1e-5 is for its reader to take as a number, and `no` may be a name."""

from pathlib import Path
from typing import Any

import yaml

from soups.core.errors import UsageError


def parse_with_lines(path: Path, missing: str) -> yaml.MappingNode | None:
    """The mapping in a file, with the lines that its keys stand in; None where the file is empty.

    Args:
        path: a YAML file.
        missing: what was expected, should there be no such file.

    Raises:
        UsageError: there is no such file, it is not readable, or holds something else.
    """
    try:
        document = yaml.compose(path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
    except FileNotFoundError as error:
        raise UsageError(f"{path}: no such file", expected=missing) from error
    except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
        raise UsageError(f"{path}: not readable YAML", found=" ".join(str(error).split())) from error
    if document is not None and not isinstance(document, yaml.MappingNode):
        raise UsageError(f"{path}: not a list of settings", expected="lines such as `lr: 1e-5`")
    return document


def to_plain_value(node: yaml.Node) -> Any:
    """A node as dicts, lists and text; what is empty or `null` is None."""
    if isinstance(node, yaml.SequenceNode):
        return [to_plain_value(item) for item in node.value]
    if isinstance(node, yaml.MappingNode):
        return {str(key.value): to_plain_value(value) for key, value in node.value}
    quoted = getattr(node, "style", None) in {"'", '"'}
    return None if not quoted and node.value in {"", "null", "~", "None"} else node.value
