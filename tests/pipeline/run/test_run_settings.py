"""The recorded settings of a run: what is written is read back, and damage is reported."""

from pathlib import Path

import pytest

from soups.core.errors import DataError
from soups.data.settings import DataSettings
from soups.pipeline.run.run_settings import ForeignPool, RecordedSettings, read_recorded, record_run
from tests.pipeline.small_run import CARD, recorded_settings

POOL = ForeignPool(foreign_location="pool", architecture=CARD.architecture, preprocessing=CARD.preprocessing)


@pytest.mark.parametrize(
    "recorded",
    [
        recorded_settings(),
        recorded_settings(factors=(("age", ("old", "young")), ("mask", ("no", "yes")))),
        recorded_settings(foreign=POOL, data=DataSettings(class_order=("cat", "dog"))),
    ],
)
def test_recorded_settings_are_read_back(tmp_path: Path, recorded: RecordedSettings) -> None:
    assert read_recorded(tmp_path) is None
    record_run(tmp_path, recorded)
    assert read_recorded(tmp_path) == recorded
    space = recorded.joint_space
    assert (space is None) == (not recorded.factors)
    assert space is None or len(space) == 4


@pytest.mark.parametrize("text", ["metric: [", "metric: accuracy", "[]", "metric: 3\nprecision: fp32\nthreads: x"])
def test_damage_is_reported(tmp_path: Path, text: str) -> None:
    (tmp_path / "settings.yaml").write_text(text)
    with pytest.raises(DataError, match=r"settings\.yaml: damaged(?s:.*)choose another --name"):
        read_recorded(tmp_path)
