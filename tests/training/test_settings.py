"""Training settings: contradictions are refused, and defaults of later settings are not recorded."""

import pytest
from pydantic import ValidationError

from soups.training.settings import RandomRanges, TrainingSettings


@pytest.mark.parametrize("values", [{"lr_range": (1e-3, 1e-4)}, {"wd_range": (0.0, 1.0)}, {"epochs_range": (5, 4)}])
def test_invalid_ranges_are_refused(values: dict[str, tuple[float, float]]) -> None:
    with pytest.raises(ValidationError, match=next(iter(values))):
        RandomRanges.model_validate(values)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"old_aug": True, "oversample": ["a=2"]}, "old_aug is short for"),
        ({"old_aug": True, "oversample_augment": "flip"}, "old_aug is short for"),
        ({"sampler": "balanced", "oversample": ["auto"]}, "both balance"),
        ({"sampler": "balanced", "old_aug": True}, "both balance"),
        ({"augmentation": "none", "aug": "rand-m9-n2"}, "without a RandAugment"),
    ],
)
def test_settings_that_contradict_each_other(values: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        TrainingSettings.model_validate(values)


def test_later_settings_are_recorded_only_if_they_are_used() -> None:
    later = {"momentum": 0.5, "scheduler": "step", "decay_epochs": 2, "decay_rate": 0.5}
    assert not later.keys() & TrainingSettings().model_dump().keys()
    used = TrainingSettings.model_validate({"optimizer": "sgd", **later})
    assert later.items() <= used.model_dump().items()
    assert TrainingSettings.model_validate(used.model_dump()) == used


def test_frozen_stages_and_layer_decay_are_recorded_only_if_they_are_used() -> None:
    assert not {"freeze", "layer_decay"} & TrainingSettings().model_dump().keys()
    used = TrainingSettings(freeze=2, layer_decay=0.75)
    assert TrainingSettings.model_validate(used.model_dump(mode="json")) == used
    with pytest.raises(ValueError, match="leave freeze and layer_decay out"):
        TrainingSettings(freeze_backbone=True, freeze=1)
