"""What the tests of pages read: their files, code blocks, command lines and links."""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    path.relative_to(ROOT).as_posix()
    for pattern in ("README.md", "CONTRIBUTING.md", "docs/**/*.md", "examples/*/README.md")
    for path in ROOT.glob(pattern)
)
SCRIPTS = ["training.sh", *sorted(path.relative_to(ROOT).as_posix() for path in ROOT.glob("examples/*/*.sh"))]

_BLOCK = re.compile(r"(?:^<!-- (?P<mark>[^\n]*) -->\n)?^```(?P<language>\w*)\n(?P<text>.*?)^```$", re.M | re.S)
RUNS = "runs on the toy run"


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    page: str
    line: int
    language: str
    mark: str
    """The comment above it; empty where there is none."""
    text: str

    @property
    def runs(self) -> bool:
        """Whether the test runs it."""
        return self.mark == RUNS

    @property
    def place(self) -> str:
        """Page and line."""
        return f"{self.page}:{self.line}"


def text_of(page: str) -> str:
    """Return the text of a page."""
    return (ROOT / page).read_text(encoding="utf-8")


def blocks(page: str) -> list[Block]:
    """Return the fenced blocks of a page."""
    text = text_of(page)
    return [
        Block(page, text.count("\n", 0, found.start()) + 1, found["language"], found["mark"] or "", found["text"])
        for found in _BLOCK.finditer(text)
    ]


def without_blocks(page: str) -> str:
    """Return the text of a page between its fenced blocks."""
    return _BLOCK.sub("", text_of(page))


def command_lines(text: str) -> list[str]:
    """Return the lines of a shell block, comments and continuations resolved."""
    lines = [re.sub(r"(^|\s)#(\s.*)?$", "", line).strip() for line in text.replace("\\\n", " ").splitlines()]
    return [line for line in lines if line]


def words(line: str) -> list[str]:
    """Return the words of a command line."""
    return shlex.split(line)
