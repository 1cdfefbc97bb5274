"""Which run a command continues: the named one, the last one, that of the images, or a new one."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from soups.core.errors import DataError, UsageError
from soups.data.settings import DataSettings
from soups.files.atomic import write_table, write_text
from soups.pipeline.run.open_run import check_settings
from soups.pipeline.run.run import Run, require_run
from soups.pipeline.run.run_name import choose_run_name, default_run_name
from soups.pipeline.run.run_settings import record_run
from soups.pipeline.settings.commands import FinetuneSettings, RunSettings
from tests.pipeline.small_run import make_run, recorded_settings


@pytest.mark.parametrize(
    ("location", "name"), [("data/my digits", "my-digits"), (("a/one", "b/two"), "one-two"), ("data/äö", "run")]
)
def test_the_default_name_is_that_of_the_data(location: Any, name: str) -> None:
    settings = FinetuneSettings(data=DataSettings.model_validate({"data_location": location}))
    assert default_run_name(settings) == name


def make_images(folder: Path, text: str = "") -> Path:
    """Write the images of the small run, or others with the same names."""
    for name in "abcd":
        write_text(folder / f"{name}.png", f"{name}{text}")
    return folder


def record(folder: Path, name: str, data: Path) -> Run:
    """Make a run of the images in a folder, the last one."""
    run = make_run(folder / "runs", name)
    record_run(run.folder, recorded_settings(data=DataSettings(data_location=str(data))))
    write_table(run.folder / "samples.csv", run.samples)
    write_text(folder / "runs" / "latest", f"{name}\n")
    return require_run(RunSettings(runs_folder=str(folder / "runs")), name)


def settings_for(folder: Path, *data: Path, **run: Any) -> FinetuneSettings:
    own = {"data_location": tuple(map(str, data))} if data else {}
    return FinetuneSettings.model_validate({"run": {"runs_folder": str(folder / "runs"), **run}, "data": own})


def test_the_last_run_goes_on_with_its_images_wherever_they_are(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    photos = make_images(tmp_path / "photos")
    record(tmp_path, "p", photos)
    copied = shutil.copytree(photos, tmp_path / "copied")
    for given in ((), (photos,), (tmp_path / "x" / ".." / "photos",), (copied,)):
        (tmp_path / "x").mkdir(exist_ok=True)
        assert choose_run_name(settings_for(tmp_path, *given)) == "p"
    moved = photos.rename(tmp_path / "moved")
    settings = settings_for(tmp_path, moved)
    assert choose_run_name(settings) == "p"
    assert choose_run_name(settings_for(tmp_path, moved, name="other")) == "other"
    caplog.set_level("INFO")
    run = check_settings(require_run(settings.run, "p"), settings, {"data_location"})
    assert run.recorded.data.data_location == str(moved)
    assert require_run(settings.run, "p").recorded == run.recorded, "workers read it from the file"
    assert f"run p: its images are read from {moved} from now on (recorded: {photos})" in caplog.text


def test_other_images_make_a_new_run_named_after_their_folder(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    run = record(tmp_path, "p", make_images(tmp_path / "photos"))
    other = make_images(tmp_path / "x" / "p", text=" of another camera")
    assert choose_run_name(settings_for(tmp_path, other)) == "p-2", "the name p is taken by other images"
    assert "run p-2: a new one, because the images of run p (the last one) are others" in caplog.text
    with pytest.raises(UsageError, match="--data-location: run 'p' was made with another value"):
        check_settings(run, settings_for(tmp_path, other), {"data_location"})
    (tmp_path / "runs" / "p-2").mkdir()
    assert choose_run_name(settings_for(tmp_path, other)) == "p-3", "p-2 may be anything"
    shutil.rmtree(tmp_path / "runs" / "p-2")
    record(tmp_path, "p-2", other)
    record(tmp_path, "newest", make_images(tmp_path / "third", text=" 3"))
    caplog.clear()
    assert choose_run_name(settings_for(tmp_path, other)) == "p-2"
    assert "run p-2: goes on, because it has these images" in caplog.text
    (tmp_path / "photos" / "c.png").unlink()
    with pytest.raises(DataError, match=r"--data-location .*nowhere: no such folder"):
        choose_run_name(settings_for(tmp_path, tmp_path / "nowhere"))


def test_a_last_run_that_is_gone_is_no_run(tmp_path: Path) -> None:
    photos = make_images(tmp_path / "photos")
    write_text(tmp_path / "runs" / "latest", "gone\n")
    assert choose_run_name(settings_for(tmp_path, photos)) == "photos"
    assert choose_run_name(settings_for(tmp_path)) == "run"
