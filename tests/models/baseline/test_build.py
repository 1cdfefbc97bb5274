"""The small network of three convolutions."""

from pathlib import Path

import pytest
import torch

from soups.checkpoints.card import Architecture
from soups.core.errors import DataError, UsageError
from soups.models.build import build_empty, build_start, describe
from soups.models.foreign.state_dict import expected_tensors
from soups.models.settings import ModelSettings

CLASSES = ("cat", "dog")


def build_start_of(**changes: object):  # type: ignore[no-untyped-def]
    return build_start(ModelSettings.model_validate({"model": "baseline", **changes}), CLASSES, seed=3)


def test_equal_seeds_give_equal_starts_and_the_card_builds_it_again() -> None:
    start, again = build_start_of(model_args=("widths=[4,6]",)), build_start_of(model_args=("widths=[4,6]",))
    assert start.architecture == Architecture(family="baseline", name="baseline", arguments={"widths": [4, 6]})
    assert describe(ModelSettings(model="baseline", model_args=("widths=[4,6]",)))[0] == start.architecture
    state = start.classifier.state_dict()
    assert all(torch.equal(tensor, again.classifier.state_dict()[key]) for key, tensor in state.items())
    rebuilt = build_empty(start.architecture, CLASSES)
    rebuilt.load_state_dict(state, strict=True)
    assert expected_tensors(start.architecture).features == 6


def test_a_file_of_its_weights_is_read(tmp_path: Path) -> None:
    start = build_start_of()
    torch.save(start.classifier.backbone.state_dict(), tmp_path / "a.pt")
    other = build_start(ModelSettings(model="baseline", pretrained=str(tmp_path / "a.pt")), CLASSES, seed=9)
    for key, tensor in start.classifier.backbone.state_dict().items():
        assert torch.equal(tensor, other.classifier.backbone.state_dict()[key])
    with pytest.raises(DataError, match=r"a\.pt: its weights do not fit baseline"):
        build_start_of(pretrained=str(tmp_path / "a.pt"), model_args=("widths=[4]",))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pretrained": "in1k"}, r"--pretrained in1k: neither a file nor a tag of baseline(.|\n)*baseline has no tags"),
        ({"head": "zero-shot"}, "baseline has no text tower"),
        ({"model_args": ("widht=[4]",)}, r"unknown argument of baseline 'widht'(.|\n)*widths"),
        ({"model_args": ("widths=[]",)}, r"--model-args widths\n  expected: one to 8 whole numbers"),
        ({"model_args": ("widths=[4, 0.5]",)}, r"--model-args widths\n  expected: one to 8 whole numbers"),
        ({"model_args": ("widths=[4,4,4,4,4,4]",), "image_size": 32}, "too small for baseline"),
    ],
)
def test_invalid_settings_are_refused(changes: dict, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        build_start_of(**changes)


@pytest.mark.parametrize("changes", [{"name": "base"}, {"arguments": {"widths": [10**6]}}, {"arguments": {"depth": 3}}])
def test_a_cards_architecture_is_not_trusted(changes: dict) -> None:
    with pytest.raises(DataError, match="not a baseline"):
        build_empty(Architecture.model_validate({"family": "baseline", "name": "baseline", **changes}), CLASSES)
