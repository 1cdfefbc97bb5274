"""State dicts of the original model-soups code load as they are and give the same logits."""

from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from torch import nn

from soups.errors import DataError
from soups.models.build import build_start, describe
from soups.models.load import load_classifier
from soups.models.original import from_original, is_original
from soups.models.settings import ModelSettings


class ModelWrapper(nn.Module):
    """The original's forward (model-soups, utils.py): encode, divide by the length, classify."""

    def __init__(self, model: nn.Module, features: int, classes: int) -> None:
        super().__init__()
        self.model = model
        self.classification_head = nn.Linear(features, classes)
        if hasattr(self.model, "transformer"):
            delattr(self.model, "transformer")

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        features = self.model.encode_image(images)
        features = features / features.norm(dim=-1, keepdim=True)
        return self.classification_head(features)


@pytest.fixture(scope="module")
def wrapper(tiny_clip: Path) -> ModelWrapper:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return ModelWrapper(open_clip.create_model(f"local-dir:{tiny_clip}"), 8, 4).eval()


def images() -> torch.Tensor:
    return torch.randn(3, 3, 16, 16, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("half", [False, True])
def test_logits_are_the_originals(
    wrapper: ModelWrapper, tiny_clip: Path, tmp_path: Path, prefix: str, half: bool
) -> None:
    state = {f"{prefix}{key}": value.half() if half else value for key, value in wrapper.state_dict().items()}
    assert any("token_embedding" in key for key in state) and any("logit_scale" in key for key in state)
    torch.save(state, tmp_path / "model_0.pt")
    architecture, preprocessing = describe(ModelSettings(model=f"local-dir:{tiny_clip}"))
    classifier, card = load_classifier(
        tmp_path / "model_0.pt", architecture=architecture, preprocessing=preprocessing, classes=("a", "b", "c", "d")
    )
    reference = wrapper
    if half:
        reference = ModelWrapper(open_clip.create_model(f"local-dir:{tiny_clip}"), 8, 4).eval()
        reference.load_state_dict({key.removeprefix(prefix): value.float() for key, value in state.items()})
    with torch.no_grad():
        assert torch.equal(classifier(images()), reference(images()))
    assert {tensor.dtype for tensor in classifier.state_dict().values()} == {torch.float32}
    assert (card.kind, card.classes, card.architecture) == ("fine-tune", ("a", "b", "c", "d"), architecture)


def load(state: dict[str, torch.Tensor], tiny_clip: Path, tmp_path: Path, **options: Any) -> Any:
    torch.save(state, tmp_path / "model_0.pt")
    architecture, preprocessing = describe(ModelSettings(model=f"local-dir:{tiny_clip}"))
    return load_classifier(
        tmp_path / "model_0.pt", **({"architecture": architecture, "preprocessing": preprocessing} | options)
    )


def test_classes_without_names_are_counted(wrapper: ModelWrapper, tiny_clip: Path, tmp_path: Path) -> None:
    _, card = load(wrapper.state_dict(), tiny_clip, tmp_path)
    assert card.classes == ("0", "1", "2", "3")


def test_another_number_of_classes_is_refused(wrapper: ModelWrapper, tiny_clip: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"its head does not fit its class list(.|\n)*2 classes: a, b(.|\n)*\(4, 8\)"):
        load(wrapper.state_dict(), tiny_clip, tmp_path, classes=("a", "b"))


def test_without_an_architecture_it_asks_for_one(wrapper: ModelWrapper, tiny_clip: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"model_0\.pt: has no card that says its architecture(.|\n)*--model"):
        load(wrapper.state_dict(), tiny_clip, tmp_path, architecture=None)


def test_another_architecture_is_refused(wrapper: ModelWrapper, tiny_clip: Path, tmp_path: Path) -> None:
    architecture, preprocessing = describe(ModelSettings(model="ViT-S-32-alt", pretrained="none"))
    with pytest.raises(DataError, match="its weights do not fit ViT-S-32-alt"):
        load(wrapper.state_dict(), tiny_clip, tmp_path, architecture=architecture, preprocessing=preprocessing)


def test_unknown_tensors_are_refused_and_leftovers_dropped(wrapper: ModelWrapper, tmp_path: Path) -> None:
    state = from_original(wrapper.state_dict(), tmp_path)
    assert all(key.startswith(("backbone.", "head.")) for key in state)
    with pytest.raises(DataError, match="unknown tensor 'surprise'"):
        from_original(wrapper.state_dict() | {"surprise": torch.ones(1)}, tmp_path)


def test_other_states_are_not_taken_for_the_originals(tiny_clip: Path) -> None:
    start = build_start(ModelSettings(model=f"local-dir:{tiny_clip}"), ("a",), seed=0)
    assert not is_original(start.classifier.state_dict())
    assert not is_original({"model.visual.proj": torch.ones(1)})
