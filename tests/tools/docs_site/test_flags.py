"""Flags of a command as tables."""

from typing import Annotated, Literal

from pydantic import BaseModel, Field

from soups.cli.help import field_texts, flag_names
from tools.docs_site.flags import describe_type, flag_tables, in_markdown


class Inner(BaseModel):
    """Shared settings."""

    batch_size: int = Field(default=8, gt=0)
    """Images in one step,
    at the most."""


class Base(BaseModel):
    """A base."""

    name: str | None = None
    """Name of <the run>."""


class Outer(Base):
    """A command."""

    inner: Inner = Inner()
    kind: Literal["a", "b"] = "a"
    """`a` or `b`."""
    bounds: tuple[float, float] = (1e-6, 1e-4)


def test_types_are_words() -> None:
    assert describe_type(int) == "integer"
    assert describe_type(str | None) == "text"
    assert describe_type(tuple[str, ...] | None) == "text …"
    assert describe_type(tuple[float, float]) == "number number"
    assert describe_type(Literal["x", "y"]) == "`x` \\| `y`"
    assert describe_type(Annotated[int, Field(gt=0)] | Literal["auto"]) == "integer or `auto`"


def test_texts_are_inherited() -> None:
    assert field_texts(Outer) == {"name": "Name of <the run>.", "kind": "`a` or `b`."}


def test_tables_have_own_flags_first() -> None:
    text = flag_tables(Outer)
    assert text.index("--name") < text.index("--kind") < text.index("## Inner") < text.index("--batch-size")
    assert "| `--batch-size` | integer | `8` | Images in one step, at the most. |" in text
    assert "| `--name` | text |  | Name of &lt;the run>. |" in text
    assert "| `--bounds` | number number | `1e-06 0.0001` |  |" in text


def test_names_include_groups() -> None:
    assert set(flag_names(Outer)) == {
        "--help",
        "--config",
        "--debug",
        "--wide",
        "--batch-size",
        "--name",
        "--kind",
        "--bounds",
    }


def test_texts_are_not_read_as_markdown() -> None:
    assert in_markdown("<a>_<b>_ | `x_y`, see --batch-size") == "&lt;a>\\_&lt;b>\\_ \\| `x_y`, see `--batch-size`"
