"""The embedded digits: split by writer, equal bytes, and foreign folders untouched."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from soups.core.errors import DataError, EnvironmentFailure
from tools.demo_data.digits import (
    GROUP_PATTERN,
    MARKER,
    WORDS,
    draw_test_writers,
    make_digits,
    shifted_versions,
    writer_of,
)
from tools.demo_data.settings import DigitsSettings

SHIFTS = {"rotate_left", "rotate_right", "noise", "blur", "translate"}


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_digits(DigitsSettings(location=tmp_path_factory.mktemp("data") / "digits", image_size=8))


@pytest.fixture
def copied(digits: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(digits, tmp_path / "digits"))


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def writers(folder: Path) -> set[str]:
    return {re.search(GROUP_PATTERN, path.name)[1] for path in folder.rglob("*.png")}


def test_layout(digits: Path) -> None:
    assert {path.name for path in digits.iterdir()} == {"train", "test", "shifts", MARKER}
    assert {path.name for path in (digits / "shifts").iterdir()} == SHIFTS
    for place in ("train", "test", *(f"shifts/{name}" for name in SHIFTS)):
        assert {path.name for path in (digits / place).iterdir()} == set(WORDS)
    assert len(list((digits / "train").rglob("*.png"))) + len(list((digits / "test").rglob("*.png"))) == 1797


def test_no_writer_is_on_both_sides(digits: Path) -> None:
    train, test = writers(digits / "train"), writers(digits / "test")
    assert not train & test
    assert (len(train), len(test)) == (8, 5)
    for shift in SHIFTS:
        assert {path.name for path in (digits / "shifts" / shift).rglob("*.png")} == {
            path.name for path in (digits / "test").rglob("*.png")
        }


def test_images_are_the_digits_themselves(digits: Path) -> None:
    from sklearn.datasets import load_digits

    table = load_digits()
    for path in [*digits.glob("train/*/*.png"), *digits.glob("test/*/*.png")][::50]:
        row = int(path.stem.split("_")[1])
        with Image.open(path) as image:
            assert (image.mode, image.size) == ("L", (8, 8))
            assert np.abs(np.asarray(image) / 255 - table.images[row] / 16).max() < 0.003
        assert WORDS[table.target[row]] == path.parent.name
        assert path.name.startswith(f"w{writer_of(row):02d}_")


def test_writers_come_in_blocks() -> None:
    assert [writer_of(row) for row in (0, 129, 130, 1414, 1415, 1666, 1667, 1796)] == [0, 0, 1, 10, 11, 11, 12, 12]


def test_a_second_call_changes_nothing_and_imports_nothing_heavy(digits: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in digits.rglob("*")}
    code = (
        "import sys; from tools.demo_data.digits import make_digits;"
        "from tools.demo_data.settings import DigitsSettings;"
        "make_digits(DigitsSettings(location=sys.argv[1], image_size=8));"
        "assert not {'sklearn', 'torch', 'PIL'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code, str(digits)], check=True)
    assert {path: path.stat().st_mtime_ns for path in digits.rglob("*")} == before


def test_an_incomplete_folder_is_made_again_with_equal_bytes(copied: Path) -> None:
    whole = files(copied)
    next(copied.rglob("*.png")).unlink()
    (copied.parent / ".digits.making").mkdir()  # as a killed process leaves it
    assert files(make_digits(DigitsSettings(location=copied, image_size=8))) == whole
    assert {path.name for path in copied.parent.iterdir()} <= {"digits", ".digits.lock"}


def test_other_settings_replace_our_own_folder(copied: Path) -> None:
    make_digits(DigitsSettings(location=copied, image_size=9, test_writers=2))
    with Image.open(next(copied.rglob("*.png"))) as image:
        assert image.size == (9, 9)
    assert len(writers(copied / "test")) == 2
    assert json.loads((copied / MARKER).read_text())["settings"]["test_writers"] == 2


def test_a_folder_that_is_not_ours_is_refused(tmp_path: Path) -> None:
    (tmp_path / "digits").mkdir()
    (tmp_path / "digits" / "thesis.txt").write_text("years of work")
    with pytest.raises(DataError, match=r"digits: exists and was not made by the demo(.|\n)*choose another --location"):
        make_digits(DigitsSettings(location=tmp_path / "digits"))
    assert files(tmp_path / "digits") == {"thesis.txt": b"years of work"}


def test_a_foreign_file_in_our_folder_is_not_lost(copied: Path) -> None:
    (copied / "train" / "notes.txt").write_text("mine")
    with pytest.raises(DataError, match=r"a file that the demo did not make(.|\n)*found: .*notes\.txt"):
        make_digits(DigitsSettings(location=copied, image_size=9))
    assert (copied / "train" / "notes.txt").read_text() == "mine"


def test_a_file_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("")
    with pytest.raises(EnvironmentFailure, match="data"):
        make_digits(DigitsSettings(location=tmp_path / "data" / "digits"))
    with pytest.raises(DataError, match="data: exists and was not made by the demo"):
        make_digits(DigitsSettings(location=tmp_path / "data"))


def test_the_seed_determines_the_test_writers() -> None:
    drawn = [draw_test_writers(DigitsSettings(seed=seed)) for seed in range(20)]
    assert all(len(testers) == 5 for testers in drawn)
    assert set.union(*drawn) == set(range(13))


def test_shifts_change_an_image_as_their_names_say() -> None:
    bar = np.zeros((32, 32), dtype=np.uint8)
    bar[4:16, 15:17] = 255  # like a clock hand at noon
    settings = DigitsSettings()
    made = {name.removeprefix("shifts/"): np.asarray(image, float) for name, image in shifts_of(bar, settings).items()}
    assert set(made) == SHIFTS
    assert made["rotate_left"][:16, :14].sum() > 10 * made["rotate_left"][:16, 18:].sum()
    assert made["rotate_right"][:16, 18:].sum() > 10 * made["rotate_right"][:16, :14].sum()
    assert made["blur"].max() < 200 < bar.max()
    assert made["blur"].sum() == pytest.approx(bar.sum(), rel=0.1)
    rows, columns = (np.average(np.arange(32), weights=made["translate"].sum(axis=axis)) for axis in (1, 0))
    assert np.hypot(rows - 9.5, columns - 15.5) == pytest.approx(settings.translation, abs=0.5)
    noise = made["noise"][20:, :].ravel() / 255  # half of it is cut off at black
    assert np.mean(noise > 0) == pytest.approx(0.5, abs=0.06)
    assert np.median(noise[noise > 0]) == pytest.approx(0.6745 * settings.noise, rel=0.2)
    assert not np.array_equal(made["noise"], np.asarray(shifts_of(bar, settings, row=6)["shifts/noise"]))


def shifts_of(pixels: np.ndarray, settings: DigitsSettings, row: int = 5) -> dict[str, Image.Image]:
    return shifted_versions(Image.fromarray(pixels), row, settings)
