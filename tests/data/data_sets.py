"""Small data sets on disk, and their tables, for the tests of this room."""

from pathlib import Path
from typing import Any

import pandas as pd
from PIL import Image

from soups.data.layouts.layouts import separate_test_samples
from soups.data.samples import make_samples
from soups.data.settings import DataSettings


def touch(root: Path, *names: str) -> Path:
    """Create files with the content `pixels` below a folder; return the folder."""
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"pixels")
    return root


def make_images(root: Path, groups: int = 6, classes: str = "ab") -> Path:
    """Create `train/<class>/<group>_<class>.png`, images of one pixel; return the folder."""
    for label in classes:
        (root / "train" / label).mkdir(parents=True)
        for group in range(groups):
            Image.new("L", (1, 1)).save(root / "train" / label / f"w{group}_{label}.png")
    return root


def make_table(root: Path, **settings: Any) -> pd.DataFrame:
    """Return the samples table of a data set."""
    return make_samples(DataSettings(data_location=str(root), **settings))


def rows_of(labels: list[str], split: str = "train") -> pd.DataFrame:
    """Return a samples table with one image and one group for each label."""
    images = [f"{index}.png" for index in range(len(labels))]
    return pd.DataFrame({"image": images, "label": labels, "group": images, "split": split}, dtype=str)


def image_rows(table: pd.DataFrame) -> list[tuple[str, ...]]:
    """Return image, label and split of each row."""
    return list(table[["image", "label", "split"]].itertuples(index=False, name=None))


def read_test_location(root: Path, test: Path) -> list[tuple[str, ...]]:
    """Return image, label and split of the images at a test location, for training images of the classes a and b."""
    settings = DataSettings(data_location=str(root), test_location=str(test))
    return image_rows(separate_test_samples(settings, {"a", "b"}))
