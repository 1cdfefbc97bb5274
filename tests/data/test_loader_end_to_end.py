"""From a folder of images in many formats to batches, twice with equal results."""

import hashlib
from pathlib import Path

import numpy as np
from PIL import Image

from soups.core.preprocessing import Preprocessing
from soups.data.augment.augment import build_augmentation
from soups.data.balance import oversample
from soups.data.images.cache import open_images
from soups.data.images.decode import decode
from soups.data.images.geometry import evaluation_geometry, resize_and_crop, training_geometry
from soups.data.loader import TrainingLoader, evaluation_batches
from soups.data.samples import evaluation_sets, label_space, make_samples, set_rows
from soups.data.settings import DataSettings

PREPROCESSING = Preprocessing(size=16, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))


def make_odd_images(root: Path) -> None:
    """Grey, alpha, palette, CMYK, 16-bit, float and rotated images under odd names, three of each kind and class."""
    random = np.random.default_rng(0)
    rotated = Image.Exif()
    rotated[0x0112] = 6
    for label in ("Kätzchen, jung", "hund 'groß'", "007"):
        for number in range(3):
            folder = root / "train" / label / f"serie {number}"
            folder.mkdir(parents=True)
            height, width = (int(side) for side in random.integers(9, 70, 2))
            picture = Image.fromarray(random.integers(0, 256, (height, width, 3), dtype=np.uint8))
            wide = random.integers(0, 65536, (height, width), dtype=np.uint16)
            picture.save(folder / "a b.JPG", "JPEG", exif=rotated)
            picture.convert("L").save(folder / "ä.jpeg")
            picture.convert("CMYK").save(folder / "50%.jpg")
            picture.convert("RGBA").save(folder / "x.y.png")
            picture.convert("P").save(folder / "p.gif")
            Image.fromarray(wide).save(folder / "16.png")
            Image.fromarray(wide.astype(np.float32)).save(folder / "f.tiff")


def test_odd_images_reach_the_batches(tmp_path: Path) -> None:
    data = tmp_path / "my data"
    make_odd_images(data)
    samples = make_samples(DataSettings(data_location=str(data), group_pattern=r"train/([^/]+/[^/]+)/", val_ratio=0.34))
    space = label_space(samples)
    assert len(samples) == 63 and len(space) == 3 and evaluation_sets(samples) == ["val"]
    digests = set()
    for cache in ("auto", "off"):
        train, val = samples[samples["split"] == "train"], set_rows(samples, "val")
        paths = [data / name for name in train["image"]]
        images = open_images(paths, training_geometry(PREPROCESSING), cache, tmp_path / "cache")
        rows = oversample(train, ("007=2",))
        loader = TrainingLoader(
            images, space.encode(train["label"]), rows, build_augmentation(PREPROCESSING), 8, seed=5
        )
        digest, seen = hashlib.sha256(), 0
        for epoch in range(2):
            for pixels, labels, positions in loader.epoch(epoch):
                assert space.decode(labels) == train["label"].iloc[positions.numpy()].tolist()
                digest.update(pixels.numpy().tobytes())
                seen += len(labels)
        assert seen == 2 * (len(train) + (train["label"] == "007").sum())
        paths = [data / name for name in val["image"]]
        geometry = evaluation_geometry(PREPROCESSING)
        evaluated = np.concatenate(
            [batch.numpy() for batch in evaluation_batches(open_images(paths, geometry, cache, tmp_path / "cache"), 4)]
        )
        assert np.array_equal(evaluated, np.stack([resize_and_crop(decode(path), geometry) for path in paths]))
        digests.add(digest.hexdigest())
    assert len(digests) == 1
