"""Count files, lines, lines of code and functions by folder: of the working tree, or of the commit given."""

import ast
import io
import subprocess
import sys
import tokenize
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
_NO_CODE = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}


def main(argv: list[str] | None = None) -> int:
    """Print a table: folder, files, lines, code (without docstrings, comments and blank lines), functions."""
    arguments = sys.argv[1:] if argv is None else argv
    commit = arguments[0] if arguments else None
    totals: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0, 0])
    for path in _git("ls-tree", "-r", "--name-only", commit) if commit else _git("ls-files"):
        if path.endswith(".py"):
            text = "\n".join(_git("show", f"{commit}:{path}")) if commit else (ROOT / path).read_text(encoding="utf-8")
            for folder in {_folder(path), f"{path.split('/')[0]}/ in all" if "/" in path else "top level"}:
                for column, count in enumerate((1, text.count("\n") + 1, code_lines(text), functions(text))):
                    totals[folder][column] += count
    print(f"{'folder':28}{'files':>7}{'lines':>8}{'code':>8}{'functions':>11}")
    for folder, (files, lines, code, defined) in sorted(totals.items()):
        print(f"{folder:28}{files:7,}{lines:8,}{code:8,}{defined:11,}")
    return 0


def code_lines(text: str) -> int:
    """Return the number of lines that hold code: no docstring, comment or blank line."""
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in _NO_CODE:
            lines.update(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(text)):
        # A string that is a statement: a docstring, of a module, class, function or attribute.
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            lines.difference_update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    return len(lines)


def functions(text: str) -> int:
    """Return the number of functions and methods."""
    return sum(isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) for node in ast.walk(ast.parse(text)))


def _folder(path: str) -> str:
    parts = path.split("/")[:-1]
    deep = parts[:2] == ["soups", "pipeline"]
    return "/".join(parts[: 3 if deep else 2 if parts[:1] in (["soups"], ["tools"]) else 1]) or "top level"


def _git(*words: str) -> list[str]:
    done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


if __name__ == "__main__":
    sys.exit(main())
