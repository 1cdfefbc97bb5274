"""Detection of data location, layout, test set and bands."""

import logging
from pathlib import Path

import pytest

from soups.core.errors import UsageError
from soups.data.layouts.locate import resolve_locations
from soups.data.settings import DataSettings
from tests.data.people import make_people


@pytest.mark.parametrize("named", ["", "train", "train/images"])
def test_one_data_set_from_any_of_its_folders(tmp_path: Path, named: str) -> None:
    make_people(tmp_path / "train" / "images")
    (tmp_path / "eval").mkdir()
    found = resolve_locations(DataSettings(data_location=str(tmp_path / named)))
    assert (found.layout, found.data_location) == ("profile", str(tmp_path / "train"))
    assert (found.test_location, found.age_bands) == (str(tmp_path / "eval"), (29, 59))
    assert resolve_locations(found) == found


def test_sets_beside_the_images_and_at_test_location(tmp_path: Path) -> None:
    make_people(tmp_path / "images")
    assert resolve_locations(DataSettings(data_location=str(tmp_path))).test_location is None
    (tmp_path / "eval").mkdir()
    assert resolve_locations(DataSettings(data_location=str(tmp_path))).test_location == str(tmp_path / "eval")
    named = DataSettings(data_location=str(tmp_path), test_location="other")
    assert resolve_locations(named).test_location == "other"


def test_layouts_are_detected(tmp_path: Path) -> None:
    (tmp_path / "cat").mkdir()
    assert resolve_locations(DataSettings(data_location=str(tmp_path))).layout == "folder"
    assert resolve_locations(DataSettings(data_location=str(tmp_path), labels="x.csv")).layout == "csv"
    assert resolve_locations(DataSettings(data_location=str(tmp_path / "nowhere"))).layout == "folder"
    make_people(tmp_path / "images")
    assert resolve_locations(DataSettings(data_location=str(tmp_path), layout="folder")).layout == "folder"
    with pytest.raises(UsageError, match="--age-bands: not available for this layout"):
        resolve_locations(DataSettings(data_location=str(tmp_path), layout="folder", age_bands=(1, 2)))


@pytest.mark.parametrize(("place", "location"), [("images", "."), ("data/train/images", "data/train")])
def test_default_locations_are_searched_and_logged(
    tmp_path: Path, place: str, location: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    assert resolve_locations(DataSettings()).data_location is None
    make_people(tmp_path / place)
    with caplog.at_level(logging.INFO, logger="soups"):
        assert resolve_locations(DataSettings()).data_location == location
    assert f"--data-location is not set: using {place} (layout profile)" in caplog.text
    assert resolve_locations(DataSettings(layout="folder")).data_location is None
