"""Text from the Jinja templates of this package: pages in HTML, and the README.md of a model's folder."""

from pathlib import Path
from typing import Any


def render_template(template: str, **values: Any) -> str:
    """Return a template filled with values; an HTML template shows all text literally, also what looks like HTML.

    Args:
        template: path of the file below this file's folder.
        values: the template's variables.
    """
    from jinja2 import Environment

    text = (Path(__file__).parent / template).read_text(encoding="utf-8")
    environment = Environment(autoescape=template.endswith(".html"), trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(text).render(values)
