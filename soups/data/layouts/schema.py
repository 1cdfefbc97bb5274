"""Descriptions of layouts: which fields an image's path or a table's row has, and how they make its label and group.

`profile.yaml` beside this file is one; any other is a YAML file of the user's own.
"""

import re
from collections import Counter
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from soups.core.errors import DataError, UsageError
from soups.core.labels import Factor
from soups.files.yaml_text import parse_with_lines, to_plain_value

SCHEMA_ENDINGS = (".yaml", ".yml")
RESERVED_COLUMNS = ("image", "label", "group", "split", "label_before", "corrected_by", "source")
"""Columns of the samples table that no factor can be called."""

BUILTIN = {"profile": Path(__file__).parent / "profile.yaml"}
"""Name → file of the descriptions that come with the package."""

_FIELD = re.compile(r"\{(\w+)\}")


class FactorSchema(BaseModel):
    """How a field of the path or row becomes a level of a factor."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    field: str
    """The field that tells the level."""
    levels: tuple[str, ...] | dict[str, tuple[str, ...]]
    """The levels in order; or for each level the values of the field that mean it."""
    bands: tuple[float, ...] | None = None
    """Of a number: the greatest value of each level but the last."""

    @model_validator(mode="after")
    def _bands_fit(self) -> "FactorSchema":
        if self.bands is None:
            return self
        if isinstance(self.levels, dict):
            raise ValueError("bands: the levels are a list then, one for each band")
        if len(self.bands) != len(self.levels) - 1:
            raise ValueError(f"bands: {len(self.levels)} levels need {len(self.levels) - 1} upper ends")
        if list(self.bands) != sorted(set(self.bands)):
            raise ValueError(f"bands: upper ends that rise, found {', '.join(f'{end:g}' for end in self.bands)}")
        return self

    @property
    def names(self) -> tuple[str, ...]:
        """The levels in order."""
        return tuple(self.levels)

    @cached_property
    def level_of_value(self) -> dict[str, str]:
        """Value of the field → level, where it is no number."""
        if isinstance(self.levels, dict):
            return {value: level for level, values in self.levels.items() for value in values}
        return {level: level for level in self.levels}

    def level(self, value: str) -> str | None:
        """The level that a value of the field means; None where it means none."""
        if self.bands is None:
            return self.level_of_value.get(value)
        if not re.fullmatch(r"[0-9]+(\.[0-9]+)?", value):
            return None
        return self.names[sum(float(value) > end for end in self.bands)]

    @property
    def expected(self) -> str:
        """What values there may be, in words."""
        return "a number" if self.bands is not None else f"one of {', '.join(self.level_of_value)}"


class LayoutSchema(BaseModel):
    """A layout: what the names of the images, or the rows of a table, say of them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    images: str | None = None
    """The folder of the images, below the data location or below `train/` there; None: the data location itself."""
    path: str | None = None
    """Pattern of an image's path below that folder, without its ending; `{field}` stands for a field."""
    table: str | None = None
    """Instead of `path`: a CSV in the data location, whose columns are the fields."""
    image: str = "image"
    """With `table`: the column that names the image."""
    group: str | None = None
    """The field that names the person, writer or scene; None: each image is its own group."""
    complete: str | None = None
    """A field of the file's name of which every folder has each value once."""
    test: str | None = None
    """Folder of the test set: beside `train/`, or beside the images."""
    factors: dict[str, FactorSchema] = Field(min_length=1)
    """In the order of the class names."""

    @model_validator(mode="after")
    def _fields_exist(self) -> "LayoutSchema":
        if (self.path is None) == (self.table is None):
            raise ValueError("either `path` (a pattern) or `table` (a CSV) tells the fields")
        if self.path is None:
            if self.complete is not None:
                raise ValueError("complete: only a `path` has folders that could be incomplete")
            return self
        fields = _FIELD.findall(self.path)
        if doubled := [name for name, times in Counter(fields).items() if times > 1]:
            raise ValueError(f"path: the field {doubled[0]} is there twice")
        if any(not part or part in (".", "..") for part in self.path.split("/")):
            raise ValueError("path: names of folders and of the file, with / between them")
        wanted = [self.group, self.complete, *(factor.field for factor in self.factors.values())]
        if missing := [name for name in wanted if name is not None and name not in fields]:
            raise ValueError(f"{missing[0]!r} is no field of the path {self.path}")
        if self.complete is not None and self.complete not in _FIELD.findall(self.parts[-1]):
            raise ValueError(f"complete: {self.complete} is no field of the file's name, {self.parts[-1]}")
        if self.complete is not None and not self.values_of(self.complete):
            raise ValueError(f"complete: no factor lists the values of {self.complete}")
        return self

    @model_validator(mode="after")
    def _factors_have_names(self) -> "LayoutSchema":
        for name in self.factors:
            if name in RESERVED_COLUMNS:
                raise ValueError(f"factors: none can be called {name}")
        try:
            _ = self.label_factors
        except DataError as error:
            raise ValueError(str(error)) from error
        return self

    @property
    def parts(self) -> list[str]:
        """The patterns of the folders, and of the file."""
        return (self.path or "").split("/")

    @cached_property
    def expressions(self) -> list[re.Pattern[str]]:
        """A regular expression for each of `parts`, whose named groups are the fields.

        A field ends where what follows it in the pattern begins for the first time; the last field of a part takes all.
        """
        return [_compile_part(part) for part in self.parts]

    @property
    def label_factors(self) -> tuple[Factor, ...]:
        """The factors of the label."""
        return tuple(Factor(name, factor.names) for name, factor in self.factors.items())

    @property
    def banded_factors(self) -> list[str]:
        """The factors that are bands of a number."""
        return [name for name, factor in self.factors.items() if factor.bands is not None]

    def values_of(self, field: str) -> tuple[str, ...]:
        """The values of a field that mean a level of some factor, in their order."""
        found = [f.level_of_value for f in self.factors.values() if f.field == field and f.bands is None]
        return tuple(dict.fromkeys(value for values in found for value in values))

    def with_bands(self, bands: tuple[int, ...] | None) -> "LayoutSchema":
        """The description with other upper ends for its banded factor.

        Raises:
            UsageError: there is no such factor, or the upper ends do not fit its levels.
        """
        if bands is None:
            return self
        if len(self.banded_factors) != 1:
            found = f"banded factors: {', '.join(self.banded_factors) or 'none'}"
            raise UsageError("--age-bands: not for this layout", expected="one factor with bands", found=found)
        name = self.banded_factors[0]
        changed = {**self.factors[name].model_dump(), "bands": bands}
        try:
            factor = FactorSchema.model_validate(changed)
        except ValidationError as error:
            reason = error.errors()[0]["msg"].removeprefix("Value error, bands: ")
            found = " ".join(map(str, bands))
            raise UsageError(
                f"--age-bands for {name} ({', '.join(self.factors[name].names)})", expected=reason, found=found
            ) from error
        return self.model_copy(update={"factors": {**self.factors, name: factor}})


def _compile_part(part: str) -> re.Pattern[str]:
    pieces = _FIELD.split(part)  # Literal, field, literal, field, …, literal.
    text = re.escape(pieces[0])
    for field, literal in zip(pieces[1::2], pieces[2::2], strict=True):
        inner = f"(?:(?!{re.escape(literal)}).)+" if literal else ".+"
        text += f"(?P<{field}>{inner}){re.escape(literal)}"
    return re.compile(text)


def is_schema(layout: str) -> bool:
    """Whether a layout is told by a description."""
    return layout.endswith(SCHEMA_ENDINGS) or layout in BUILTIN


def read_schema(layout: str, bands: tuple[int, ...] | None = None) -> LayoutSchema:
    """The description of a layout.

    Args:
        layout: a key of `BUILTIN`, or the path of a YAML file.
        bands: upper ends of its banded factor, instead of those in the file.

    Raises:
        UsageError: there is no such file, or it describes no layout; or bands that do not fit.
    """
    path = BUILTIN.get(layout, Path(layout))
    document = parse_with_lines(path, f"the file of --layout {layout}")
    try:
        return LayoutSchema.model_validate(to_plain_value(document) if document is not None else {}).with_bands(bands)
    except ValidationError as error:
        first = error.errors()[0]
        where = ": ".join(
            str(part) for part in first["loc"] if part not in ("tuple[str, ...]", "dict[str,tuple[str, ...]]")
        )
        raise UsageError(
            f"{path}{': ' * bool(where)}{where}",
            expected=first["msg"].removeprefix("Value error, "),
            found="" if isinstance(first["input"], Mapping) else repr(first["input"]),
            next_step=f"copy {BUILTIN['profile']} and change it",
        ) from error
