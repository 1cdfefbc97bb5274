"""Schemas of layouts: the fields in image paths or table rows, and the factors and the group that they determine.

A schema is a YAML file: `profile.yaml` beside this file, or the user's own. Images are read in `factor_layout.py`."""

import re
from collections import Counter
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from soups.core.errors import DataError, UsageError
from soups.core.labels import Factor, LabelSpace
from soups.files.yaml_text import parse_with_lines, to_plain_value

SCHEMA_ENDINGS = (".yaml", ".yml")
RESERVED_COLUMNS = ("image", "label", "group", "split", "label_before", "corrected_by", "source")
"""Columns of the samples table; no factor may have one of these names."""

BUILTIN = {"profile": Path(__file__).parent / "profile.yaml"}
"""Layout name → schema file, for schemas in the package."""

_FIELD = re.compile(r"\{(\w+)\}")


class FactorSchema(BaseModel):
    """A factor: the field that determines it, and the level of each value."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    field: str
    """The field that determines the level."""
    levels: tuple[str, ...] | dict[str, tuple[str, ...]]
    """The levels in order, if they are values of the field; or level → values of the field."""
    bands: tuple[float, ...] | None = None
    """Upper limit, inclusive, of each level except the last, for a numeric field."""

    @model_validator(mode="after")
    def _bands_fit(self) -> "FactorSchema":
        if self.bands is None:
            return self
        if isinstance(self.levels, dict):
            raise ValueError("bands: levels must be a list with one level for each band")
        if len(self.bands) != len(self.levels) - 1:
            raise ValueError(f"bands: {len(self.levels)} levels need {len(self.levels) - 1} upper limits")
        if list(self.bands) != sorted(set(self.bands)):
            raise ValueError(f"bands: ascending upper limits, found {', '.join(f'{limit:g}' for limit in self.bands)}")
        return self

    @property
    def names(self) -> tuple[str, ...]:
        """The levels in order."""
        return tuple(self.levels)

    @cached_property
    def level_of_value(self) -> dict[str, str]:
        """Value of the field → level, for a field that is not numeric."""
        if isinstance(self.levels, dict):
            return {value: level for level, values in self.levels.items() for value in values}
        return {level: level for level in self.levels}

    def level(self, value: str) -> str | None:
        """Return the level of a value of the field; None if it has no level."""
        if self.bands is None:
            return self.level_of_value.get(value)
        if not re.fullmatch(r"[0-9]+(\.[0-9]+)?", value):
            return None
        return self.names[sum(float(value) > limit for limit in self.bands)]

    @property
    def expected_values(self) -> str:
        """Description of the valid values, for messages."""
        return "a number" if self.bands is not None else f"one of {', '.join(self.level_of_value)}"


class LayoutSchema(BaseModel):
    """The schema of a layout: folder of the images, fields of their paths or table rows, and the label's factors."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    images: str | None = None
    """Folder of the images in the data location or in `train/` there; None: the data location itself."""
    path: str | None = None
    """Pattern of an image's path relative to that folder, without file extension; `{field}` marks a field."""
    table: str | None = None
    """CSV in the data location whose columns are the fields; an alternative to `path`."""
    image: str = "image"
    """Column of `table` with the image's path or file name."""
    group: str | None = None
    """Field that identifies the person, writer or scene; None: each image is a group by itself."""
    complete: str | None = None
    """Field of the file name; every folder must have exactly one image for each of its values."""
    test: str | None = None
    """Folder of the test set, beside `train/` or beside the folder of the images."""
    factors: dict[str, FactorSchema] = Field(min_length=1)
    """Factors in their order in class names."""

    @model_validator(mode="after")
    def _fields_exist(self) -> "LayoutSchema":
        if (self.path is None) == (self.table is None):
            raise ValueError("either `path` (a pattern) or `table` (a CSV)")
        if self.path is None:
            if self.complete is not None:
                raise ValueError("complete: no such entry with `table`, only with `path`")
            return self
        fields = _FIELD.findall(self.path)
        if repeated := [name for name, times in Counter(fields).items() if times > 1]:
            raise ValueError(f"path: each field once, found {repeated[0]} twice")
        if any(not part or part in (".", "..") for part in self.path.split("/")):
            raise ValueError("path: names of folders and of the file, separated by /")
        used = [self.group, self.complete, *(factor.field for factor in self.factors.values())]
        if missing := [name for name in used if name is not None and name not in fields]:
            raise ValueError(f"{missing[0]!r} to be a field of the path {self.path}")
        if self.complete is not None and self.complete not in _FIELD.findall(self.parts[-1]):
            raise ValueError(f"complete: {self.complete} to be a field of the file name, {self.parts[-1]}")
        if self.complete is not None and not self.values_of(self.complete):
            raise ValueError(f"complete: a factor that lists the values of {self.complete}")
        return self

    @model_validator(mode="after")
    def _factors_have_names(self) -> "LayoutSchema":
        if reserved := [name for name in self.factors if name in RESERVED_COLUMNS]:
            raise ValueError(f"factors: another name than {reserved[0]}, which is a column of the samples table")
        try:
            LabelSpace.product(self.label_factors)
        except DataError as error:
            raise ValueError(str(error)) from error
        return self

    @property
    def parts(self) -> list[str]:
        """The patterns of the folders, then of the file name."""
        return (self.path or "").split("/")

    @cached_property
    def expressions(self) -> list[re.Pattern[str]]:
        """A regular expression for each of `parts`, whose named groups are the fields.

        A field ends at the first occurrence of the text after it in the pattern; without such text it takes the rest.
        """
        expressions = []
        for part in self.parts:
            start, *pieces = _FIELD.split(part)  # Literal, then field, literal, field, literal, …
            text = re.escape(start)
            for field, literal in zip(pieces[::2], pieces[1::2], strict=True):
                inner = f"(?:(?!{re.escape(literal)}).)+" if literal else ".+"
                text += f"(?P<{field}>{inner}){re.escape(literal)}"
            expressions.append(re.compile(text))
        return expressions

    @property
    def label_factors(self) -> tuple[Factor, ...]:
        """The label's factors with their levels."""
        return tuple(Factor(name, factor.names) for name, factor in self.factors.items())

    @property
    def banded_factors(self) -> list[str]:
        """Names of the factors with bands."""
        return [name for name, factor in self.factors.items() if factor.bands is not None]

    def values_of(self, field: str) -> tuple[str, ...]:
        """Return the values of a field that have a level of some factor, in schema order."""
        found = [f.level_of_value for f in self.factors.values() if f.field == field and f.bands is None]
        return tuple(dict.fromkeys(value for values in found for value in values))

    def with_bands(self, bands: tuple[int, ...] | None) -> "LayoutSchema":
        """Return the schema with other upper limits for its banded factor.

        Raises:
            UsageError: there is not exactly one banded factor, or the limits do not fit its levels.
        """
        if bands is None:
            return self
        if len(self.banded_factors) != 1:
            problem, found = "--age-bands: not available for this layout", ", ".join(self.banded_factors) or "none"
            raise UsageError(problem, expected="one factor with bands", found=f"banded factors: {found}")
        name = self.banded_factors[0]
        try:
            factor = FactorSchema.model_validate({**self.factors[name].model_dump(), "bands": bands})
        except ValidationError as error:
            raise UsageError(
                f"--age-bands for {name} ({', '.join(self.factors[name].names)})",
                expected=error.errors()[0]["msg"].removeprefix("Value error, bands: "),
                found=" ".join(map(str, bands)),
            ) from error
        return self.model_copy(update={"factors": {**self.factors, name: factor}})


def is_schema(layout: str) -> bool:
    """Return whether a layout is defined by a schema: a built-in one or a YAML file."""
    return layout.endswith(SCHEMA_ENDINGS) or layout in BUILTIN


def read_schema(layout: str, bands: tuple[int, ...] | None = None) -> LayoutSchema:
    """Read the schema of a layout.

    Args:
        layout: a key of `BUILTIN`, or the path of a YAML file.
        bands: upper limits of its banded factor, in place of those in the file.

    Raises:
        UsageError: the file does not exist or is not a schema, or the bands do not fit.
    """
    path = BUILTIN.get(layout, Path(layout))
    document = parse_with_lines(path, f"the file of --layout {layout}")
    try:
        return LayoutSchema.model_validate(to_plain_value(document) if document is not None else {}).with_bands(bands)
    except ValidationError as error:
        first = error.errors()[0]
        types = "tuple[str, ...]", "dict[str,tuple[str, ...]]"
        where = ": ".join(str(part) for part in first["loc"] if part not in types)
        raise UsageError(
            f"{path}{': ' * bool(where)}{where}",
            expected=first["msg"].removeprefix("Value error, "),
            found="" if isinstance(first["input"], Mapping) else repr(first["input"]),
            next_step=f"copy {BUILTIN['profile']} and change it",
        ) from error
