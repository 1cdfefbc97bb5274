"""Settings of a run's data: location, layout, labels, groups, split and image cache. Does not import torch."""

import os
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from soups.cli.flags import Flag


class DataSettings(BaseModel):
    """The images of a run, their labels, groups and splits. `make_samples` turns them into one table per run."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    RARE: ClassVar = (
        *("age_bands", "image_column", "label_column", "group_column", "split_column"),
        *("class_order", "split_seed", "allow_duplicates", "skip_bad_images"),
    )

    data_location: str | tuple[str, ...] | None = None
    """Folder of the images: `train/<class>/…` with optional `val/`, `test/` and `shifts/<name>/`, or `<class>/…`
    (default: the first of `.`, `data`, `input/data` and `/opt/ml/input/data` that has the layout `profile`). Several
    folders with the same layout are joined by class name; the column `source` holds each image's folder."""
    test_location: str | None = None
    """Test images outside the data location: a folder (flat, one folder per class, with `images/` or with a metadata
    file), or a CSV that lists them."""
    layout: str = "auto"
    """Where labels are read from: `folder` (the name of the image's folder), `csv` (a table, see --labels), `metadata`
    (a metadata.csv or metadata.jsonl at the root or in train/, validation/ and test/, as in Hugging Face's
    imagefolder), `profile` (folders named <id>_<gender>_<race>_<age>), a YAML file that describes another naming, or
    `auto`: csv if --labels is set, else profile if folder names match it, else metadata if such a file exists, else
    folder."""
    age_bands: tuple[int, ...] | None = None
    """Upper limit of each age band except the last (default for profile: 29 59)."""
    target: str | None = None
    """Factors to train on, separated by commas, if labels are made of factors: `mask,gender` or `age` (default:
    all)."""
    relabel: str | None = None
    """CSV of label corrections with the columns match, factor, from and to. The split does not depend on it."""
    labels: str | None = None
    """CSV with the labels for the layout `csv`, in --data-location or as a path (default: `train.csv` or `labels.csv`
    in --data-location)."""
    image_column: str | None = None
    """Column of a CSV with the image's path or file name, with or without file extension (default: `image`, in metadata
    files `file_name`, else a usual name such as `id`, else the column whose values are images)."""
    label_column: str | None = None
    """Column of a CSV with the class name (default: `label`, else a usual name such as `class`, else the only other
    column, or columns of 0 and 1 named after the classes)."""
    group_column: str | None = None
    """Column of a CSV with the group (person, writer, scene …). All images of a group are in the same split."""
    split_column: str | None = None
    """Column of the labels CSV with the split: `train`, `val`, `test` or the name of a shift set."""
    groups: str | None = None
    """CSV with each image's group, in the columns `image` and `group`."""
    group_pattern: str | None = None
    """Regular expression that is searched in each image's path. Its first capture group, or the whole match if it has
    none, is the image's group."""
    class_order: tuple[str, ...] | None = None
    """Class names in the order of the model's outputs (default: sorted as strings)."""
    split_seed: int = Field(default=0, ge=0)
    """Seed of the split into training and validation groups, one per run. Training has its own --random-seed."""
    val_ratio: float | None = Field(default=0.2, gt=0, lt=1)
    """Share of the training groups used for validation if there is no `val/`. None validates on the training images,
    so that scores are too high."""
    limit: int | None = Field(default=None, gt=0)
    """Use at most this many images of each set, for a quick trial. Proportions of classes and groups are preserved."""
    allow_duplicates: Flag = False
    """Continue although training images are also in the test set, so that its scores are too high."""
    skip_bad_images: Flag = False
    """Skip training images that cannot be read. Unreadable test images are always an error."""

    @field_validator("data_location", mode="before")
    @classmethod
    def _one_folder_or_several(cls, location: Any) -> Any:
        """Return a single folder as a string, as older runs recorded it, and several as a tuple."""
        if not isinstance(location, list | tuple):
            return location
        if not location:
            raise ValueError("expected one folder or several")
        return location[0] if len(location) == 1 else tuple(location)

    @property
    def locations(self) -> tuple[str, ...]:
        """The data location as a tuple of folders."""
        if self.data_location is None:
            return ()
        return (self.data_location,) if isinstance(self.data_location, str) else self.data_location

    @property
    def root(self) -> Path:
        """Folder that paths in the samples table are relative to: the data location, or the parent of several."""
        if len(self.locations) < 2:
            return Path(*self.locations)
        paths = [os.path.normpath(location) for location in self.locations]
        try:
            return Path(os.path.commonpath(paths))
        except ValueError:  # Raised for a mixture of absolute and relative paths.
            return Path(os.path.commonpath([Path(path).absolute() for path in paths]))

    @field_validator("target")
    @classmethod
    def _names_factors(cls, target: str | None) -> str | None:
        if target is None:
            return None
        names = [name.strip() for name in target.split(",")]
        if not all(names) or len(set(names)) < len(names):
            raise ValueError("expected factor names separated by commas, each once, such as mask,gender")
        return ",".join(names)

    @property
    def target_factors(self) -> tuple[str, ...] | None:
        """The factors to train on; None means all."""
        return tuple(self.target.split(",")) if self.target is not None else None


class CacheSettings(BaseModel):
    """Settings of the image cache: resized images as raw bytes in one file that all processes share."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    RARE: ClassVar = ("cache", "cache_size")

    cache: Literal["auto", "on", "off"] = "auto"
    """`on` decodes each image once and caches its pixels on disk, `off` decodes images in every epoch, `auto` is `on`
    but continues without a cache, with a warning, if the file does not fit on the disk."""
    cache_size: int | None = Field(default=None, gt=0)
    """Side of the cached training images in pixels (default: 1.15 × the model's input, to leave a margin for random
    crops)."""
