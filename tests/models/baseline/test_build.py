"""The small network of three convolutions."""

from pathlib import Path

import pytest
import torch
from torch import nn

from soups.checkpoints.card import Architecture
from soups.core.errors import DataError, UsageError
from soups.models.build import build_empty, build_start, describe
from soups.models.foreign.state_dict import expected_tensors
from soups.models.settings import ModelSettings

CLASSES = ("cat", "dog")


def start_of(**changes: object):  # type: ignore[no-untyped-def]
    return build_start(ModelSettings.model_validate({"model": "baseline", **changes}), CLASSES, seed=3)


def written_out(state: dict[str, torch.Tensor], images: torch.Tensor) -> torch.Tensor:
    """The network in evaluation mode, a step at a time."""
    for block in range(3):
        images = nn.functional.conv2d(images, state[f"blocks.{block}.0.weight"], padding=1)
        mean, variance, weight, bias = (
            state[f"blocks.{block}.1.{name}"].view(1, -1, 1, 1)
            for name in ("running_mean", "running_var", "weight", "bias")
        )
        images = (images - mean) / (variance + 1e-5).sqrt() * weight + bias
        images = images.clamp(min=0)
        images = torch.stack(
            [
                images[:, :, i : images.shape[2] // 2 * 2 : 2, j : images.shape[3] // 2 * 2 : 2]
                for i in (0, 1)
                for j in (0, 1)
            ]
        ).amax(0)
    return images.mean(dim=(2, 3))


def test_it_is_the_network_that_is_described() -> None:
    start = start_of(image_size=24)
    state = start.classifier.backbone.state_dict()
    pictures = torch.randn(2, 3, 24, 24, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = written_out(state, pictures)
        torch.testing.assert_close(start.classifier.features(pictures), expected)
        torch.testing.assert_close(start.classifier(pictures), expected @ start.classifier.head.weight.T)
    assert (start.preprocessing.size, start.classifier.head.in_features) == (24, 128)
    assert sum(p.numel() for p in start.classifier.backbone.parameters()) == 27 * 32 + 9 * 32 * 64 + 9 * 64 * 128 + 448


def test_equal_seeds_give_equal_starts_and_the_card_builds_it_again() -> None:
    start, again = start_of(model_args=("widths=[4,6]",)), start_of(model_args=("widths=[4,6]",))
    assert start.architecture == Architecture(family="baseline", name="baseline", arguments={"widths": [4, 6]})
    assert describe(ModelSettings(model="baseline", model_args=("widths=[4,6]",)))[0] == start.architecture
    state = start.classifier.state_dict()
    assert all(torch.equal(tensor, again.classifier.state_dict()[key]) for key, tensor in state.items())
    rebuilt = build_empty(start.architecture, CLASSES)
    rebuilt.load_state_dict(state, strict=True)
    assert expected_tensors(start.architecture).features == 6


def test_a_file_of_its_weights_is_read(tmp_path: Path) -> None:
    start = start_of()
    torch.save(start.classifier.backbone.state_dict(), tmp_path / "a.pt")
    other = build_start(ModelSettings(model="baseline", pretrained=str(tmp_path / "a.pt")), CLASSES, seed=9)
    for key, tensor in start.classifier.backbone.state_dict().items():
        assert torch.equal(tensor, other.classifier.backbone.state_dict()[key])
    with pytest.raises(DataError, match=r"a\.pt: its weights do not fit baseline"):
        start_of(pretrained=str(tmp_path / "a.pt"), model_args=("widths=[4]",))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"pretrained": "in1k"}, r"--pretrained in1k: neither a file nor a tag of baseline(.|\n)*baseline has no tags"),
        ({"head": "zero-shot"}, "baseline has no text tower"),
        ({"model_args": ("widht=[4]",)}, r"unknown argument of baseline 'widht'(.|\n)*widths"),
        ({"model_args": ("widths=[]",)}, r"--model-args widths\n  expected: one to 8 whole numbers"),
        ({"model_args": ("widths=[4, 0.5]",)}, r"--model-args widths\n  expected: one to 8 whole numbers"),
        ({"model_args": ("widths=[4,4,4,4,4,4]",), "image_size": 32}, "too small for baseline"),
    ],
)
def test_what_it_cannot_be_is_refused(changes: dict, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        start_of(**changes)


@pytest.mark.parametrize("changes", [{"name": "base"}, {"arguments": {"widths": [10**6]}}, {"arguments": {"depth": 3}}])
def test_a_cards_architecture_is_not_trusted(changes: dict) -> None:
    with pytest.raises(DataError, match="not a baseline"):
        build_empty(Architecture.model_validate({"family": "baseline", "name": "baseline", **changes}), CLASSES)
