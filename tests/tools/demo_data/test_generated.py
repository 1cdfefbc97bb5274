"""Real against generated digits: separate writers, no difference in file properties, equal bytes."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from soups.core.errors import DataError
from soups.data.samples import make_samples
from soups.data.settings import DataSettings
from tools.demo_data.digits import GROUP_PATTERN, enlarge, writer_of
from tools.demo_data.generated import (
    FAKE,
    REAL,
    SETS,
    TRUTH,
    bandwidth,
    make_generated_digits,
    sample_like,
    writers_of_sets,
)
from tools.demo_data.settings import GeneratedDigitsSettings


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make the folder at the digits' own size, 8 × 8, at which enlarging changes nothing."""
    return make_generated_digits(settings(tmp_path_factory.mktemp("data") / "digits"))


def settings(location: Path, **more: int) -> GeneratedDigitsSettings:
    return GeneratedDigitsSettings.model_validate({"location": location, "image_size": 8, **more})


def pixels(folder: Path) -> dict[str, np.ndarray]:
    found = {}
    for path in sorted(folder.glob("*.png")):
        with Image.open(path) as image:
            assert (image.mode, image.size, image.info) == ("L", (8, 8), {})
            found[path.stem] = np.asarray(image)
    return found


def files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_sides_have_writers_of_their_own_and_are_balanced(made: Path) -> None:
    table = make_samples(DataSettings(data_location=str(made), group_pattern=GROUP_PATTERN))
    assert len(table) == 2 * 1797
    assert {name: set(rows["group"]) for name, rows in table.groupby("split")} == {
        name: {f"w{writer:02d}" for writer in own} for name, own in writers_of_sets(settings(made)).items()
    }
    per_writer = table.groupby(["split", "group", "label"]).size().unstack()
    assert (per_writer[REAL] == per_writer[FAKE]).all() and per_writer.groupby("split").size().to_dict() == {
        "train": 6,
        "val": 3,
        "test": 4,
    }
    fakes = table[table["label"] == FAKE]
    assert all(f"_by_{split}.png" in image for image, split in zip(fakes["image"], fakes["split"], strict=True))


def test_real_images_are_the_digits_themselves(made: Path) -> None:
    table = load_digits()
    for name in SETS:
        for stem, found in list(pixels(made / name / REAL).items())[::40]:
            row = int(stem.split("_")[1])
            assert np.array_equal(found, np.asarray(enlarge(table.images[row], 8)))
            assert stem.startswith(f"w{writer_of(row):02d}_")


def test_a_generated_image_has_the_format_of_its_centre(made: Path) -> None:
    """Counts by writer and digit and the grey levels are equal, but no image is a copy."""
    levels = {int(value) for image in load_digits().images.astype(int) for value in np.unique(image)}
    for name in SETS:
        real, fake = pixels(made / name / REAL), pixels(made / name / FAKE)
        assert [stem.removesuffix(f"_by_{name}") for stem in fake] == list(real)
        first, second = np.stack(list(real.values())), np.stack(list(fake.values()))
        assert len(levels) == 17 and set(np.unique(second)) <= set(np.unique(first))
        assert np.mean((first != second).any(axis=(1, 2))) > 0.98


def test_a_generator_knows_its_own_writers_alone(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Other sets' images do not affect a set's files."""
    import sklearn.datasets

    table = load_digits()
    writers = np.array([writer_of(row) for row in range(1797)])
    sets = writers_of_sets(settings(made))
    mine = np.isin(writers, sorted(sets["val"]))
    table.images[~mine] = np.random.default_rng(0).integers(0, 17, table.images[~mine].shape)
    monkeypatch.setattr(sklearn.datasets, "load_digits", lambda: table)
    other = make_generated_digits(settings(tmp_path / "digits"))
    for name in SETS:
        assert (files(made / name) == files(other / name)) == (name == "val")


def test_what_is_there_is_not_made_again_and_another_seed_has_other_writers(made: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in made.rglob("*")}
    assert make_generated_digits(settings(made)) == made
    assert {path: path.stat().st_mtime_ns for path in made.rglob("*")} == before
    drawn = [writers_of_sets(settings(made, seed=seed, val_writers=2, test_writers=6)) for seed in range(20)]
    assert all([len(one[name]) for name in SETS] == [5, 2, 6] for one in drawn)
    assert all(set.union(*one.values()) == set(range(13)) for one in drawn)
    assert set.union(*(one["test"] for one in drawn)) == set(range(13))


def test_the_true_classes_of_test_images_are_written(made: Path) -> None:
    table = pd.read_csv(made / TRUTH, dtype=str)
    assert set(table["image"]) == {path.relative_to(made).as_posix() for path in made.glob("test/*/*.png")}
    assert (table["image"].str.split("/").str[1] == table["target"]).all()
    assert (table["image"].str.extract(GROUP_PATTERN)[0] == table["group"]).all()


def test_a_folder_that_is_not_ours_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(DataError, match=r"exists and was not made by the demo(.|\n)*another --location"):
        make_generated_digits(settings(tmp_path))
    assert set(files(tmp_path)) == {"thesis.txt"}


def test_samples_are_kernels_around_images() -> None:
    """Against the explicit formulas: components by SVD, noise of the bandwidth, whole numbers."""
    rng = np.random.default_rng(5)
    images = rng.integers(0, 17, (40, 8, 8)).astype(float)
    writers = np.arange(40) % 4
    found = sample_like(images, writers, 5, np.random.default_rng(1))
    flat = images.reshape(40, 64)
    mean = flat.mean(axis=0)
    axes = np.linalg.svd(flat - mean, full_matrices=False)[2][:5]
    centres = (flat - mean) @ axes.T
    # The sign of a component is arbitrary and decides the noise's direction: take the library's.
    from sklearn.decomposition import PCA

    signs = np.sign((PCA(5, svd_solver="full").fit(flat).components_ * axes).sum(axis=1))
    noise = bandwidth(centres, writers) * np.random.default_rng(1).standard_normal((40, 5))
    sampled = (centres * signs + noise) @ (axes * signs[:, None]) + mean
    assert np.array_equal(found.reshape(40, 64), np.round(np.minimum(np.maximum(sampled, 0), 16)))


def test_the_bandwidth_is_that_of_the_likeliest() -> None:
    """Points of four writers, about five apart: much narrower or wider kernels have a fifth lower likelihood."""
    rng = np.random.default_rng(0)
    points = rng.normal(0, 5, (60, 2))
    writers = np.arange(60) % 4

    def likelihood(width: float) -> float:
        total = 0.0
        for writer in range(4):
            inside, out = points[writers != writer], points[writers == writer]
            squares = ((out[:, None] - inside) ** 2).sum(axis=2)
            total += np.log(np.mean(np.exp(-squares / (2 * width**2)) / (2 * np.pi * width**2), axis=1)).sum()
        return total

    grid = np.logspace(0, 1, 11)
    assert bandwidth(points, writers) == pytest.approx(max(grid, key=likelihood))


def test_file_names_are_parsed(made: Path) -> None:
    names = [path.relative_to(made).as_posix() for path in made.rglob("*.png")]
    pattern = r"(train|val|test)/(REAL/w\d\d_\d{4}|FAKE/w\d\d_\d{4}_by_\1)\.png"
    assert all(re.fullmatch(pattern, name) for name in names)
