"""The text of `--help`."""

from typing import Annotated, ClassVar, Literal

import tyro
from pydantic import BaseModel, Field

from soups.cli.flags import Flag
from soups.cli.help import format_help


class Group(BaseModel):
    """The network and its start. More that is not in the title."""

    RARE: ClassVar = ("odd_seed",)

    lr: float = Field(default=1e-5, gt=0)
    """Peak learning rate."""
    way: Literal["soft", "hard"] = "soft"
    """One of two."""
    odd_seed: int | None = None
    """A seed
    over two lines."""


class Settings(BaseModel):
    """Does a thing.

    A second paragraph that is
    broken in the source.
    """

    images: tyro.conf.Positional[tuple[str, ...]] = ()
    """The images."""
    model: Group = Group()
    class_name: Annotated[str | None, tyro.conf.arg(aliases=["--class"])] = None
    """The class; by default the predicted one."""
    members: tuple[str, ...] | None = None
    """Models."""
    bounds: tuple[float, float] = (0, 1)
    """Two numbers."""
    jobs: int | Literal["auto"] = 1
    """Processes."""
    scores: Flag = True
    """Score it."""
    strict: Flag = False
    """Be strict."""
    data_location: str | tuple[str, ...] | None = None
    """Folder of the images."""


def test_the_whole_text() -> None:
    text = format_help(Settings, "soups do", ("--strict", ""), {"SM_CHANNEL_TRAIN": "data_location"}, width=80)
    assert (
        text
        == """usage: soups do [IMAGES …] [flags]

Does a thing.

A second paragraph that is broken in the source.

examples:
  soups do --strict
  soups do

Flags of this command
  IMAGES …                The images.
  --class-name, --class NAME
                          The class; by default the predicted one.
  --members MODEL …       Models.
  --bounds LOW HIGH       Two numbers. (default: 0 1)
  --jobs N|auto           Processes. (default: 1)
  --scores [True|False]   Score it. (default: True)
  --strict                Be strict.
  --data-location DIR …   Folder of the images. (environment: SM_CHANNEL_TRAIN)

Model: the network and its start
  --lr X                  Peak learning rate. (default: 1e-05)
  --way {soft,hard}       One of two. (default: soft)

Rarely needed
  --odd-seed N            A seed over two lines.

General
  --config FILE.yaml[#SECTION]
                          Read settings from a YAML file or a section of it;
                          flags win over the file.
  --wide                  Print tables in one piece, wider than the terminal.
  --debug                 Show the traceback of an error.
  -h, --help              Show this help and exit."""
    )


def test_lines_end_at_the_terminal_s_width() -> None:
    for width in (60, 200):
        lines = format_help(Settings, "soups do", width=width).splitlines()
        assert max(map(len, lines)) <= min(width, 110)
