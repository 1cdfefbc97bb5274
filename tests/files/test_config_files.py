"""Settings files: values, lines, sections and invalid files."""

from pathlib import Path

import pytest

from soups.core.errors import UsageError
from soups.files.config_files import read_config, take_config

KNOWN = ("lr", "top_k", "name")


def read(folder: Path, content: str, section: str | None = None) -> dict[str, tuple[object, int]]:
    """Setting → value and line."""
    (folder / "c.yaml").write_text(content)
    config = read_config(folder / "c.yaml", section, KNOWN)
    return {name: (value, config.lines[name]) for name, value in config.values.items()}


def test_values_are_text_and_have_lines(tmp_path: Path) -> None:
    content = "# what\nlr: 1e-5\n\ntop-k: [1, no]\na:\n  lr: 2\n"
    assert read(tmp_path, content, "a") == {"lr": ("2", 6), "top_k": (["1", "no"], 4)}
    assert read(tmp_path, "") == {}


@pytest.mark.parametrize(
    ("content", "section", "words"),
    [
        ("lr: 1\nlr: 2\n", None, "c.yaml, line 2: lr is already set in line 1"),
        ("top-k: 1\nlr: 1\ntop_k: 2\n", None, "c.yaml, line 3: top_k is already set in line 1"),
        ("lr: 1\na:\n  name: b\n  name: c\n", "a", "c.yaml, line 4: name is already set in line 3"),
        ("LR_: 1\n", None, "line 1: unknown setting 'LR_'\n  next:     did you mean 'lr'?"),
        ("top: 1\n", None, "line 1: unknown setting 'top'\n  next:     did you mean 'top_k'?"),
        ("a:\n  lr: 1\n", "b", "no section 'b'\n  expected: --config .*c.yaml#SECTION\n  found:    the sections a"),
    ],
)
def test_invalid_files_are_rejected(tmp_path: Path, content: str, section: str | None, words: str) -> None:
    import re

    with pytest.raises(UsageError, match=words.replace("?", re.escape("?"))):
        read(tmp_path, content, section)


def test_the_flag_is_split_off_the_other_arguments() -> None:
    assert take_config(["--lr", "1", "--config", "c.yaml#a", "--name"]) == (
        ["--lr", "1", "--name"],
        Path("c.yaml"),
        "a",
    )
    assert take_config(["--config=c.yaml"]) == ([], Path("c.yaml"), None)
    assert take_config(["--lr"]) == (["--lr"], None, None)
