"""Hooks of mkdocs: pages that are made at build time (flags of every command, modules of every room)."""

import ast
import inspect
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from soups.commands import COMMANDS as INSTALLED
from tools.docs_site.commands import COMMANDS, DocumentedCommand
from tools.docs_site.flags import flag_tables, in_markdown

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files

ROOT = Path(__file__).resolve().parents[2]
PLACEHOLDER = "<!-- list of commands -->"


def on_files(files: "Files", config: "MkDocsConfig") -> "Files":
    """Add the generated pages."""
    from mkdocs.structure.files import File

    for path, text in generated_pages().items():
        files.append(File.generated(config, path, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Fill in the list of commands on the first page of the reference."""
    return markdown.replace(PLACEHOLDER, command_list()) if page.file.src_uri == "reference/index.md" else markdown


def on_page_content(html: str, **_: Any) -> str:
    """Keep each flag on one line: browsers break after a hyphen."""
    return re.sub(r"<code>([^<]*)</code>", lambda found: _with_whole_flags(found[0]), html)


def _with_whole_flags(code: str) -> str:
    return re.sub(r"(?<![\w-])--[a-z][\w-]*", r'<span class="flag">\g<0></span>', code)


def generated_pages() -> dict[str, str]:
    """Return the Markdown of each generated page by its path below `docs/`."""
    pages = {f"reference/commands/{_slug(command)}.md": _command_page(command) for command in COMMANDS}
    return {**pages, "reference/rooms.md": _rooms_page()}


def command_list() -> str:
    """Return a table of all commands with links to their pages."""
    rows = ["| command | file | |", "| --- | --- | --- |"]
    for command in COMMANDS:
        summary = inspect.cleandoc(command.settings().__doc__ or "").split("\n\n")[0].replace("\n", " ")
        summary = in_markdown(summary)
        name = f"`soups {command.name}`" if command.name else f"`{_slug(command)}`"
        rows.append(f"| [{name}](commands/{_slug(command)}.md) | `{command.script}` | {summary} |")
    return "\n".join(rows)


def _slug(command: DocumentedCommand) -> str:
    """Name of the page; two scripts are called `curate.py`, one of them a benchmark."""
    return command.name or command.script.removeprefix("scripts/").removesuffix(".py").replace("/", "_")


def _command_page(command: DocumentedCommand) -> str:
    settings = command.settings()
    title = f"soups {command.name}" if command.name else f"python {command.script}"
    same = f"In the repository: `python {command.script}`.\n\n" if command.name else ""
    text = in_markdown(inspect.cleandoc(settings.__doc__ or ""))
    shown = _examples(command)
    shared = "`--config FILE.yaml` gives any of these from a file; `--debug` shows the traceback of an error."
    return f"# {title}\n\n{text}\n\n{shown}{same}{shared}\n\n{flag_tables(settings)}\n"


def _examples(command: DocumentedCommand) -> str:
    """Return the examples that `--help` shows, as a block."""
    if command.name is None:
        return ""
    lines = "\n".join(f"soups {command.name} {arguments}".strip() for arguments in INSTALLED[command.name].examples)
    return f"```bash\n{lines}\n```\n\n"


def _rooms_page() -> str:
    parts = [
        "# Rooms and modules",
        "First lines of the modules' docstrings. The order of imports: [design](../design.md).",
    ]
    folders = sorted({path.parent for path in (ROOT / "soups").rglob("*.py")})
    for folder in folders:
        rows = []
        for path in sorted(folder.glob("*.py")):
            summary = (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").split("\n\n")[0]
            if path.name != "__init__.py" or folder == ROOT / "soups":
                summary = in_markdown(" ".join(summary.split()))
                rows.append(f"| `{path.name}` | {summary} |")
        if rows:
            name = folder.relative_to(ROOT).as_posix()
            parts.append(f"## {name}\n\n| module | |\n| --- | --- |\n" + "\n".join(rows))
    return "\n\n".join(parts) + "\n"
