"""What the data is, where it lies and how it is divided. Torch-free."""

import os
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from soups.cli.flags import Flag


class DataSettings(BaseModel):
    """The images of a run, their labels, groups and splits. One table is made from it, once per run."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    data_location: str | tuple[str, ...] | None = None
    """Folder of the images: `train/<class>/…` with optional `val/`, `test/` and `shifts/<name>/`, or `<class>/…`; a
    described layout in the working folder or in `data/` is found by itself. Several folders of one layout are joined,
    classes by name; each image remembers its folder as `source`."""
    test_location: str | None = None
    """Test images that lie elsewhere: a folder (flat, by class, with `images/` or a metadata file), or a CSV that
    names them."""
    layout: str = "auto"
    """How labels are told: `folder` (the folder's name), `csv` (a table, see --labels), `metadata` (a metadata.csv or
    metadata.jsonl at the root or in train/, validation/ and test/, as Hugging Face's imagefolder has it), `profile`
    (people's folders, <id>_<gender>_<race>_<age>), a YAML file that describes another naming, or `auto`: csv with
    --labels, profile where the folders are named so, metadata where there is one, else folder."""
    age_bands: tuple[int, ...] | None = None
    """Greatest age of each band but the last (profile: 29 59)."""
    target: str | None = None
    """Of labels that are made of factors: train on these alone, such as `mask,gender` or `age`."""
    relabel: str | None = None
    """CSV of corrections with the columns match, factor, from and to; who validates does not depend on it."""
    labels: str | None = None
    """CSV of the layout `csv`, in --data-location or by full path (default: `train.csv` or `labels.csv` there)."""
    image_column: str = "image"
    """Column of a CSV that names the image: its path or file name, with or without ending; a metadata file calls it
    `file_name`."""
    label_column: str = "label"
    """Column of a CSV that gives the class name."""
    group_column: str | None = None
    """Column of a CSV that names the group (person, writer, scene …), kept on one side of the split."""
    split_column: str | None = None
    """Column of the labels CSV that says `train`, `val`, `test` or the name of a shift set."""
    groups: str | None = None
    """CSV with the columns `image` and `group` that names each image's group."""
    group_pattern: str | None = None
    """Regular expression searched in each image's path; its first group, or the whole match, names the group."""
    class_order: tuple[str, ...] | None = None
    """Class names in the order of the model's outputs (default: string order)."""
    split_seed: int = Field(default=0, ge=0)
    """Decides which groups validate, once per run; training has its own --random-seed."""
    val_ratio: float | None = Field(default=0.2, gt=0, lt=1)
    """Share of the training groups that validate where there is no `val/`; None: validate on all, which flatters."""
    limit: int | None = Field(default=None, gt=0)
    """For a first look: use at most so many images of each set, classes and groups in their proportions."""
    allow_duplicates: Flag = False
    """Go on although training images are in the test set too: its scores flatter."""
    skip_bad_images: Flag = False
    """Train without the images that cannot be read; a test image is never left out."""

    @field_validator("data_location", mode="before")
    @classmethod
    def _one_folder_or_several(cls, location: Any) -> Any:
        """One folder is recorded as it always was."""
        if not isinstance(location, list | tuple):
            return location
        if not location:
            raise ValueError("expected a folder, or several")
        return location[0] if len(location) == 1 else tuple(location)

    @property
    def locations(self) -> tuple[str, ...]:
        """The folders that the data location names."""
        if self.data_location is None:
            return ()
        return (self.data_location,) if isinstance(self.data_location, str) else self.data_location

    @property
    def root(self) -> Path:
        """Where the paths of the samples table begin: the data location, or the folder that several lie in."""
        if len(self.locations) < 2:
            return Path(*self.locations)
        places = [os.path.normpath(location) for location in self.locations]
        try:
            return Path(os.path.commonpath(places))
        except ValueError:  # Absolute and relative ones.
            return Path(os.path.commonpath([Path(place).absolute() for place in places]))

    @field_validator("target")
    @classmethod
    def _names_factors(cls, target: str | None) -> str | None:
        if target is None:
            return None
        names = [name.strip() for name in target.split(",")]
        if not all(names) or len(set(names)) < len(names):
            raise ValueError("expected names of factors with commas between them, each once, such as mask,gender")
        return ",".join(names)

    @property
    def target_factors(self) -> tuple[str, ...] | None:
        """The factors that are trained on; None: all."""
        return tuple(self.target.split(",")) if self.target is not None else None


class CacheSettings(BaseModel):
    """The decode-once cache: images brought to one size, kept as bytes in one file shared by all processes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    cache: Literal["auto", "on", "off"] = "auto"
    """`auto` does without, with a notice, where the file does not fit on the disk; `on` insists; `off` decodes anew."""
    cache_size: int | None = Field(default=None, gt=0)
    """Side of the cached training images in pixels (default: 1.15 × the model's input, so that crops have room)."""
