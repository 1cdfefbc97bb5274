"""Mistakes on a command line, in words."""

from typing import Annotated, Any, Literal

import pytest
import tyro
from pydantic import BaseModel, Field, model_validator

from soups.cli.usage_errors import find_mistake


class Settings(BaseModel):
    """Some settings."""

    lr: float = Field(default=1.0, gt=0)
    ratio: float | None = Field(default=None, gt=0, lt=1)
    jobs: Literal["auto"] | Annotated[int, Field(gt=0)] = "auto"
    way: str = Field(default="soft", pattern="^(soft|hard)$")
    name: str = Field(default="a", pattern="^[a-z0-9][a-z0-9._-]*$")
    epochs: Annotated[int, tyro.conf.arg(aliases=["-e"])] = 1
    models: tuple[str, ...] = ()
    strict: bool = False

    @model_validator(mode="after")
    def _check(self) -> "Settings":
        if self.strict and self.epochs > 5:
            raise ValueError("strict and epochs contradict each other")
        return self


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("--lr 0", "--lr\n  expected: a number greater than 0\n  found:    0"),
        ("--lr=x", "--lr\n  expected: a number\n  found:    x"),
        ("--lr", "--lr: no value"),
        ("--lr 1 2", "--lr: several values\n  expected: one\n  found:    1 2"),
        ("--ratio 1.5", "expected: a number less than 1"),
        ("--jobs 0", "expected: auto or a number greater than 0"),
        ("--jobs all", "expected: auto or a whole number\n  found:    all"),
        ("--way hart", "expected: soft, hard\n  found:    hart"),
        ("--name ü", "expected: letters, digits, '.', '_' and '-', a letter or digit first"),
        ("-e 1.5", "-e\n  expected: a whole number\n  found:    1.5"),
        ("--models a b --learning-rate 3", "unknown flag --learning-rate\n  next:     the flag is called --lr"),
        ("--lrr 3", "unknown flag --lrr\n  next:     did you mean '--lr'? --help lists all flags"),
        ("--zzz", "unknown flag --zzz\n  next:     --help lists all flags"),
        ("--strict --epochs 6", "strict and epochs contradict each other"),
        ("stray", "the command line is not understood: stray\n  next:     --help lists all flags"),
    ],
)
def test_the_first_mistake_is_named_with_what_would_be_right(arguments: str, words: str) -> None:
    def validate(values: dict[str, Any]) -> None:
        Settings.model_validate(values)

    assert words in str(find_mistake(Settings.model_fields, arguments.split(), validate))
