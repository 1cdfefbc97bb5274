"""Phases of a fine-tune: the head alone, all weights, or one after the other."""

import pytest

from soups.training.phases import Phase, make_phases
from soups.training.settings import TrainingSettings

HEAD_ONLY = Phase(0, 0, 3, head_only=True, final=True)
ALL = Phase(0, 0, 3, head_only=False, final=True)
PROBE_THEN_ALL = [Phase(0, 0, 2, head_only=True, final=False), Phase(1, 2, 5, head_only=False, final=True)]


@pytest.mark.parametrize(
    ("values", "phases"),
    [({}, [ALL]), ({"freeze_backbone": True}, [HEAD_ONLY]), ({"lp_epochs": 2}, PROBE_THEN_ALL)],
)
def test_phases_follow_the_settings(values: dict[str, object], phases: list[Phase]) -> None:
    assert make_phases(TrainingSettings.model_validate({"epochs": 3, **values})) == phases
