"""Checkpoints of other tools, saved by their own libraries, load as they are and give their own models' logits."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import open_clip
import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn

from soups.checkpoints.card import Card
from soups.core.errors import DataError
from soups.models.build import build_with_weights, describe
from soups.models.foreign.files import read_foreign_state
from soups.models.foreign.state_dict import expected_tensors, lacks_head, select_clip_tensors, translate_state
from soups.models.load import load_classifier
from soups.models.open_clip.build import zero_shot_from_text_tower
from soups.models.settings import ModelSettings

CLASSES = ("a", "b", "c", "d")
State = dict[str, torch.Tensor]
Save = Callable[[State, Path], None]


class ModelWrapper(nn.Module):
    """The forward pass of the original code (model-soups, utils.py): encode, divide by the length, classify."""

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


@pytest.fixture(scope="module")
def resnet() -> nn.Module:
    return random_timm("test_resnet")


def random_timm(name: str) -> nn.Module:
    """Returns a timm model with random classifier and statistics."""
    with torch.random.fork_rng():
        torch.manual_seed(4)
        model = timm.create_model(name, num_classes=len(CLASSES)).eval()
        for key, tensor in model.state_dict().items():
            if key.endswith("running_mean") or key.startswith(("head.", "fc.", "classifier.")):
                tensor.normal_(std=0.1)
    return model


def images(size: int = 16) -> torch.Tensor:
    return torch.randn(3, 3, size, size, generator=torch.Generator().manual_seed(1))


def loaded(path: Path, model: str, **options: Any) -> tuple[nn.Module, Card]:
    architecture, preprocessing = describe(ModelSettings(model=model, pretrained="none"))
    return load_classifier(path, **({"architecture": architecture, "preprocessing": preprocessing} | options))


def load(state: State, tiny_clip: Path, tmp_path: Path, **options: Any) -> tuple[nn.Module, Card]:
    torch.save(state, tmp_path / "model_0.pt")
    return loaded(tmp_path / "model_0.pt", f"local-dir:{tiny_clip}", **options)


# The same logits as the library's own model


@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.module."])
@pytest.mark.parametrize("half", [False, True])
def test_logits_equal_those_of_the_original_code(
    wrapper: ModelWrapper, tiny_clip: Path, tmp_path: Path, prefix: str, half: bool
) -> None:
    state = {f"{prefix}{key}": value.half() if half else value for key, value in wrapper.state_dict().items()}
    assert any("token_embedding" in key for key in state) and any("logit_scale" in key for key in state)
    classifier, card = load(state, tiny_clip, tmp_path, classes=CLASSES)
    reference = wrapper
    if half:
        reference = ModelWrapper(open_clip.create_model(f"local-dir:{tiny_clip}"), 8, 4).eval()
        reference.load_state_dict({key.removeprefix(prefix): value.float() for key, value in state.items()})
    with torch.no_grad():
        assert torch.equal(classifier(images()), reference(images()))
    assert {tensor.dtype for tensor in classifier.state_dict().values()} == {torch.float32}
    assert (card.kind, card.classes) == ("fine-tune", CLASSES)


SAVES: dict[str, Save] = {
    "plain.pt": torch.save,
    "plain.pth": torch.save,
    "pytorch_model.bin": torch.save,
    "old.pt": lambda state, path: torch.save(state, path, _use_new_zipfile_serialization=False),
    "model.safetensors": save_file,
    "hub.safetensors": lambda state, path: save_file({f"timm_model.{key}": t for key, t in state.items()}, path),
    "parallel.pt": lambda state, path: torch.save({"model": {f"module.{k}": t for k, t in state.items()}}, path),
    "averaged.pt": lambda state, path: torch.save(
        {"n_averaged": torch.tensor(3), **{f"module.{key}": tensor for key, tensor in state.items()}}, path
    ),
}


@pytest.mark.parametrize("name", SAVES)
def test_every_kind_of_file_gives_the_logits_of_timm(resnet: nn.Module, tmp_path: Path, name: str) -> None:
    SAVES[name](resnet.state_dict(), tmp_path / name)
    classifier, card = loaded(tmp_path / name, "timm:test_resnet")
    with torch.no_grad():
        torch.testing.assert_close(classifier(images(64)), resnet(images(64)), rtol=0, atol=1e-6)
    assert card.classes == ("0", "1", "2", "3")


@pytest.mark.parametrize("name", ["test_vit", "test_vit2", "test_convnext", "test_efficientnet", "test_byobnet"])
def test_heads_of_timm_are_found_under_any_name(tmp_path: Path, name: str) -> None:
    model = random_timm(name)
    torch.save(model.state_dict(), tmp_path / "m.pt")
    classifier, card = loaded(tmp_path / "m.pt", f"timm:{name}")
    pictures = images(card.preprocessing.size)
    with torch.no_grad():
        torch.testing.assert_close(classifier(pictures), model(pictures), rtol=0, atol=1e-6)


def test_a_whole_clip_gets_the_zero_shot_head_of_its_own_text_tower(tiny_clip: Path, tmp_path: Path) -> None:
    settings = ModelSettings(model=f"local-dir:{tiny_clip}", pretrained="none", templates=("a {}.", "one {}"))
    with torch.random.fork_rng():
        torch.manual_seed(5)
        model = open_clip.create_model(f"local-dir:{tiny_clip}", load_weights=False).eval()
        for tensor in model.parameters():
            tensor.data.add_(0.02 * torch.randn_like(tensor))
    wrapped = {f"module.{key}": tensor for key, tensor in model.state_dict().items()}
    torch.save({"epoch": 1, "name": "run", "state_dict": wrapped, "optimizer": {"state": {}}}, tmp_path / "epoch_1.pt")
    architecture, _ = describe(settings)
    network, given = expected_tensors(architecture), read_foreign_state(tmp_path / "epoch_1.pt")
    assert lacks_head(given, network, "epoch_1.pt")
    head = zero_shot_from_text_tower(settings, select_clip_tensors(given, network, "epoch_1.pt"), "epoch_1.pt", CLASSES)
    translated = translate_state(given, network, "epoch_1.pt", classes=CLASSES, head=head.state_dict())
    classifier = build_with_weights(architecture, CLASSES, translated.state, "epoch_1.pt")
    tokenizer = open_clip.get_tokenizer(f"local-dir:{tiny_clip}")
    with torch.no_grad():
        rows = []
        for name in CLASSES:
            texts = model.encode_text(tokenizer([f"a {name}.", f"one {name}"]), normalize=True).mean(dim=0)
            rows.append(texts / texts.norm())
        expected = model.logit_scale.exp() * model.encode_image(images(), normalize=True) @ torch.stack(rows).T
        torch.testing.assert_close(classifier(images()), expected, rtol=0, atol=1e-5)
    assert any("of the text tower dropped" in note for note in translated.notes)


# What is filled in or left out, in words


def test_notes_name_filled_and_dropped_tensors(resnet: nn.Module) -> None:
    architecture, _ = describe(ModelSettings(model="timm:test_resnet", pretrained="none"))
    state = {key: tensor for key, tensor in resnet.state_dict().items() if "num_batches" not in key}
    del state["fc.bias"]
    state["position_ids"] = torch.arange(3)
    state = {f"module.{key}": tensor for key, tensor in state.items()}
    translated = translate_state(state, expected_tensors(architecture), "m.pt")
    message = "; ".join(translated.notes)
    assert "`module.*` is the backbone" in message and "a head without bias: zero" in message
    assert "num_batches_tracked" in message and "integer tensors dropped: 'module.position_ids'" in message
    assert not translated.state["head.bias"].any()
    counters = [tensor for key, tensor in translated.state.items() if "num_batches" in key]
    assert counters and all(tensor.dtype == torch.int64 for tensor in counters)


# What does not fit


def test_another_number_of_classes_is_refused(wrapper: ModelWrapper, tiny_clip: Path, tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"model_0\.pt: its head does not fit its class list(.|\n)*2 classes: a, b(.|\n)*\(4, 8\)"
    ):
        load(wrapper.state_dict(), tiny_clip, tmp_path, classes=("a", "b"))


def test_the_error_without_architecture_asks_for_the_model(
    wrapper: ModelWrapper, tiny_clip: Path, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=r"model_0\.pt: has no card that says its architecture(.|\n)*--model"):
        load(wrapper.state_dict(), tiny_clip, tmp_path, architecture=None)


def test_the_error_for_another_architecture_names_the_file(wrapper: ModelWrapper, tmp_path: Path) -> None:
    torch.save(wrapper.state_dict(), tmp_path / "m.pt")
    with pytest.raises(DataError) as caught:
        loaded(tmp_path / "m.pt", "ViT-S-32-alt")
    assert "m.pt: not a checkpoint of ViT-S-32-alt" in str(caught.value)


def test_a_tensor_of_another_shape_is_named_with_both_shapes(
    wrapper: ModelWrapper, tiny_clip: Path, tmp_path: Path
) -> None:
    state = wrapper.state_dict() | {"model.visual.proj": torch.ones(32, 9)}
    with pytest.raises(
        DataError,
        match=r"'model\.visual\.proj' of shape \(32, 8\)\n  found:    shape \(32, 9\)\n  next:     give the --model",
    ):
        load(state, tiny_clip, tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state | {"surprise": torch.ones(1)}, "unknown tensor 'surprise'"),
        (lambda state: state | {"fc.weight": torch.ones(4, 8)}, "has 2 heads(.|\n)*'classification_head', 'fc'"),
        (
            lambda state: state | {"classification_head.weight": torch.ones(4, 9)},
            r"its head does not fit(.|\n)*\(4, 9\)",
        ),
        (
            lambda state: {key: t for key, t in state.items() if key != "model.visual.proj"},
            r"its weights do not fit custom(.|\n)*'model\.visual\.proj'(.|\n)*no such tensors",
        ),
        (
            lambda state: {key: t for key, t in state.items() if key.startswith("model.visual.")},
            "has no classification head, and no text tower to make one from",
        ),
        (
            lambda state: {"state": {0: {"exp_avg": torch.ones(1)}}, "param_groups": []},
            "holds no weights(.|\n)*param_groups",
        ),
        (lambda state: {"running": torch.ones(2)}, r"not a checkpoint of custom(.|\n)*'running'"),
        (lambda state: [torch.ones(2)], "holds no weights(.|\n)*list"),
    ],
)
def test_errors_name_the_file_and_the_problem(
    wrapper: ModelWrapper, tiny_clip: Path, tmp_path: Path, change: Callable[[State], Any], message: str
) -> None:
    with pytest.raises(DataError, match=rf"model_0\.pt: (.|\n)*{message}"):
        load(change(dict(wrapper.state_dict())), tiny_clip, tmp_path)
