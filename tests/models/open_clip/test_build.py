"""Start models of open_clip: files and folders of weights, towers, zero-shot heads."""

import json
import shutil
import warnings
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from soups.checkpoints.card import Architecture
from soups.core.errors import DataError, EnvironmentFailure, UsageError
from soups.models import hub
from soups.models.build import build_empty, build_start, describe
from soups.models.settings import ModelSettings

CLASSES = ("cat", "polar_bear", "zero {}")


def folder_settings(folder: Path, **changes: Any) -> ModelSettings:
    return ModelSettings(model=f"local-dir:{folder}", **changes)


def reference_clip(folder: Path) -> nn.Module:
    """Returns the same CLIP, built by open_clip."""
    return open_clip.create_model(f"local-dir:{folder}").eval()


def images(size: int = 16) -> torch.Tensor:
    return torch.randn(3, 3, size, size, generator=torch.Generator().manual_seed(1))


def test_a_folder_gives_the_tower_and_open_clips_zero_shot_logits(tiny_clip: Path) -> None:
    settings = folder_settings(tiny_clip, templates=("a photo of a {}.", "{}, drawn"))
    start = build_start(settings, CLASSES, seed=0)
    clip, tokenizer = reference_clip(tiny_clip), open_clip.get_tokenizer(f"local-dir:{tiny_clip}")
    names = ["cat", "polar bear", "zero {}"]
    with torch.no_grad():
        features = clip.encode_image(images(), normalize=True)
        assert torch.equal(start.classifier.features(images()), features)
        templates = [lambda name: f"a photo of a {name}.", lambda name: f"{name}, drawn"]
        own = open_clip.build_zero_shot_classifier(clip, tokenizer, names, templates)
        expected = features @ (own * clip.logit_scale.exp())
        torch.testing.assert_close(start.classifier(images()), expected)
        # The same, one prompt after the other, as the original's get_zeroshot_classifier.
        rows = []
        for name in names:
            texts = tokenizer([f"a photo of a {name}.", f"{name}, drawn"])
            embeddings = torch.stack([clip.encode_text(text[None])[0] for text in texts])
            mean = (embeddings / embeddings.norm(dim=-1, keepdim=True)).mean(dim=0)
            rows.append(mean / mean.norm() * clip.logit_scale.exp())
        torch.testing.assert_close(start.classifier.head.weight, torch.stack(rows))
    assert torch.equal(start.classifier.head.bias, torch.zeros(3))
    assert not start.classifier.training


def test_the_card_of_a_start_from_a_folder_rebuilds_the_network(tiny_clip: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny_clip, tmp_path / "clip"))
    start = build_start(folder_settings(folder), CLASSES, seed=0)
    assert start.architecture.name == "custom" and "text_cfg" not in start.architecture.config
    assert describe(folder_settings(folder)) == (start.architecture, start.preprocessing)
    shutil.rmtree(folder)
    again = build_empty(Architecture.model_validate_json(start.architecture.model_dump_json()), CLASSES)
    again.load_state_dict(start.classifier.state_dict(), strict=True)
    assert torch.equal(again(images()), start.classifier(images()))


def test_building_empty_builds_no_text_tower(tiny_clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    architecture, _ = describe(folder_settings(tiny_clip))
    monkeypatch.setattr(open_clip.model, "_build_text_tower", None)
    classifier = build_empty(architecture, CLASSES)
    assert set(classifier.state_dict()) >= {"backbone.conv1.weight", "head.weight", "head.bias"}
    assert not any("token_embedding" in key for key in classifier.state_dict())


# Small networks of every kind of tower that open_clip's configurations have.
TOWERS = {
    "vision transformer": {"layers": 1, "width": 32, "head_width": 16, "patch_size": 8},
    "CoCa's": {"layers": 1, "width": 32, "head_width": 16, "attentional_pool": True, "output_tokens": True},
    "ResNet": {"layers": [1, 1, 1, 1], "width": 8, "head_width": 8},
    "timm's, convolutions": {"timm_model_name": "test_convnext", "timm_model_pretrained": True, "timm_proj": "linear"},
    "timm's, transformer": {"timm_model_name": "test_vit", "timm_pool": "map", "timm_proj": ""},
}


@pytest.mark.parametrize("kind", TOWERS)
def test_towers_of_all_kinds_give_one_vector_an_image(kind: str) -> None:
    width = 64 if kind == "timm's, transformer" else 32
    config = {"embed_dim": width, "vision_cfg": {"image_size": 64} | TOWERS[kind]}
    classifier = build_empty(Architecture(family="open_clip", name="custom", config=config), CLASSES)
    with torch.no_grad():
        features = classifier.features(images(64))
        assert classifier(images(64)).shape == (3, 3)
    assert features.shape == (3, width)
    torch.testing.assert_close(features.norm(dim=-1), torch.ones(3))


def test_random_starts_follow_the_seed_and_leave_the_global_generator(tiny_clip: Path) -> None:
    settings = folder_settings(tiny_clip, pretrained="none")
    torch.manual_seed(5)
    first = build_start(settings, CLASSES, seed=1).classifier.state_dict()
    drawn = torch.rand(1)
    again, other = (build_start(settings, CLASSES, seed=seed).classifier.state_dict() for seed in (1, 2))
    torch.manual_seed(5)
    assert torch.equal(drawn, torch.rand(1))
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not torch.equal(first["head.weight"], other["head.weight"])
    assert not torch.equal(first["backbone.conv1.weight"], other["backbone.conv1.weight"])
    assert 0 < first["head.weight"].std() < 0.1


def test_a_random_head_keeps_the_towers_weights(tiny_clip: Path) -> None:
    start = build_start(folder_settings(tiny_clip, head="random"), CLASSES, seed=1)
    assert torch.equal(start.classifier.backbone.proj, reference_clip(tiny_clip).visual.proj)
    assert start.classifier.head.weight.std() < 0.1


def test_zero_shot_without_a_text_tower_is_an_error(tiny_clip: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"--head zero-shot: there are no weights of a text tower(.|\n)*none"):
        build_start(folder_settings(tiny_clip, pretrained="none", head="zero-shot"), CLASSES, seed=0)
    save_file(reference_clip(tiny_clip).visual.state_dict(), tmp_path / "visual.safetensors")
    with pytest.raises(UsageError, match=r"no weights of a text tower(.|\n)*visual\.safetensors"):
        settings = folder_settings(tiny_clip, pretrained=str(tmp_path / "visual.safetensors"), head="zero-shot")
        build_start(settings, CLASSES, seed=0)


def test_a_random_head_needs_no_tokenizer(tiny_clip: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny_clip, tmp_path / "clip"))
    content = json.loads((folder / "open_clip_config.json").read_text())
    content["model_cfg"]["text_cfg"]["hf_tokenizer_name"] = "someone/something"
    (folder / "open_clip_config.json").write_text(json.dumps(content))
    with pytest.raises(EnvironmentFailure, match=r"could not fetch the text tower or tokenizer(.|\n)*--head random"):
        build_start(folder_settings(folder), CLASSES, seed=0)
    assert build_start(folder_settings(folder, head="random"), CLASSES, seed=0).architecture.name == "custom"


def whole(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "open_clip_model.safetensors")


def tower_of(folder: Path) -> dict[str, torch.Tensor]:
    return {k.removeprefix("visual."): v for k, v in whole(folder).items() if k.startswith("visual.")}


@pytest.mark.parametrize(
    ("wrap", "zero_shot"),
    [
        (lambda folder: whole(folder), True),
        (lambda folder: {"state_dict": whole(folder), "epoch": 3}, True),
        (lambda folder: {"state_dict": {f"module.{k}": v for k, v in whole(folder).items()}, "epoch": 3}, True),
        (lambda folder: {f"module._orig_mod.{k}": v for k, v in whole(folder).items()}, True),
        (lambda folder: whole(folder) | {k: torch.tensor(1) for k in openai_buffers()}, True),
        (lambda folder: tower_of(folder), False),
        (lambda folder: {f"module.{k}": v for k, v in tower_of(folder).items()}, False),
        (lambda folder: {f"visual.{k}": v for k, v in tower_of(folder).items()}, False),
    ],
)
def test_wrapped_weights_files_are_read(tiny_clip: Path, tmp_path: Path, wrap: Any, zero_shot: bool) -> None:
    torch.save(wrap(tiny_clip), tmp_path / "weights.pt")
    start = build_start(folder_settings(tiny_clip, pretrained=str(tmp_path / "weights.pt")), CLASSES, seed=0)
    reference = build_start(folder_settings(tiny_clip), CLASSES, seed=0)
    assert torch.equal(start.classifier.features(images()), reference.classifier.features(images()))
    assert torch.equal(start.classifier.head.weight, reference.classifier.head.weight) == zero_shot


def openai_buffers() -> tuple[str, ...]:
    return ("input_resolution", "context_length", "vocab_size")


def test_half_precision_files_become_float32(tiny_clip: Path, tmp_path: Path) -> None:
    torch.save({key: value.half() for key, value in whole(tiny_clip).items()}, tmp_path / "half.pt")
    start = build_start(folder_settings(tiny_clip, pretrained=str(tmp_path / "half.pt")), CLASSES, seed=0)
    assert {tensor.dtype for tensor in start.classifier.state_dict().values()} == {torch.float32}
    expected = whole(tiny_clip)["visual.proj"].half().float()
    assert torch.equal(start.classifier.backbone.proj, expected)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: {k: v for k, v in s.items() if k != "visual.proj"}, "lacks 'visual.proj'"),
        (lambda s: {k: v for k, v in s.items() if k != "text_projection"}, "lacks 'text_projection'"),
        (lambda s: s | {"visual.surprise": torch.ones(1)}, "has also 'visual.surprise'"),
        (lambda s: s | {"visual.proj": torch.ones(2, 2)}, r"has 'visual.proj' of shape \(2, 2\) instead of \(32, 8\)"),
        (lambda s: {f"other.{k}": v for k, v in s.items()}, "lacks .* and .* more"),
    ],
)
def test_weights_that_do_not_fit_are_named(tiny_clip: Path, tmp_path: Path, change: Any, message: str) -> None:
    torch.save(change(whole(tiny_clip)), tmp_path / "weights.pt")
    with pytest.raises(DataError, match=rf"weights\.pt: its weights do not fit(.|\n)*{message}"):
        build_start(folder_settings(tiny_clip, pretrained=str(tmp_path / "weights.pt")), CLASSES, seed=0)


def test_a_file_of_another_architecture_is_refused(tiny_clip: Path) -> None:
    settings = ModelSettings(model="ViT-S-32-alt", pretrained=str(tiny_clip / "open_clip_model.safetensors"))
    with pytest.raises(DataError, match="its weights do not fit ViT-S-32-alt"):
        build_start(settings, CLASSES, seed=0)


def test_an_archive_of_openai_gets_quick_gelu(tiny_clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = json.loads((tiny_clip / "open_clip_config.json").read_text())["model_cfg"]
    configs = {"tiny": config, "tiny-quickgelu": config | {"quick_gelu": True}}
    monkeypatch.setattr(open_clip.factory, "_MODEL_CONFIGS", configs)
    clip = open_clip.CLIP(**config)
    clip.load_state_dict(whole(tiny_clip))
    for mark in openai_buffers():
        if hasattr(clip, mark):
            delattr(clip, mark)
        clip.register_buffer(mark, torch.tensor(16))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.trace_module(clip, {"encode_image": (images(),)}).save(str(tmp_path / "openai.pt"))
    torch.save(whole(tiny_clip), tmp_path / "other.pt")
    openai, other = (
        build_start(ModelSettings(model="tiny", pretrained=str(tmp_path / name), head="random"), CLASSES, seed=0)
        for name in ("openai.pt", "other.pt")
    )
    assert (openai.architecture.name, openai.architecture.quick_gelu) == ("tiny-quickgelu", True)
    assert (other.architecture.name, other.architecture.quick_gelu) == ("tiny", False)
    assert torch.equal(openai.classifier.backbone.proj, other.classifier.backbone.proj)
    assert not torch.equal(openai.classifier(images()), other.classifier(images()))


@pytest.mark.parametrize("reachable", [True, False])
def test_published_weights_are_loaded_as_by_open_clip(
    tiny_clip: Path, monkeypatch: pytest.MonkeyPatch, reachable: bool
) -> None:
    config = json.loads((tiny_clip / "open_clip_config.json").read_text())["model_cfg"]
    configs = {"tiny": config, "tiny-quickgelu": config | {"quick_gelu": True}}
    file = str(tiny_clip / "open_clip_model.safetensors")  # open_clip takes a tag's `file` as fetched.
    tag = {"file": file, "quick_gelu": True, "mean": (0.1, 0.2, 0.3), "interpolation": "bilinear"}
    monkeypatch.setattr(open_clip.factory, "_MODEL_CONFIGS", configs)
    for name in configs:
        monkeypatch.setitem(open_clip.pretrained._PRETRAINED, name, {"openai": tag})
    monkeypatch.setattr(hub, "_find_hub_problem", lambda: "" if reachable else "no route")
    start = build_start(ModelSettings(model="tiny"), CLASSES, seed=0)
    assert (start.architecture.name, start.architecture.quick_gelu) == ("tiny-quickgelu", True)
    assert (start.preprocessing.mean, start.preprocessing.interpolation) == ((0.1, 0.2, 0.3), "bilinear")
    clip = open_clip.CLIP(**configs["tiny-quickgelu"]).eval()
    clip.load_state_dict(whole(tiny_clip))
    with torch.no_grad():
        assert torch.equal(start.classifier.features(images()), clip.encode_image(images(), normalize=True))


@pytest.mark.parametrize(
    ("part", "value", "message"),
    [
        (
            "model_cfg",
            {"embed_dim": 8, "vision_cfg": {"surprise": 1}, "text_cfg": {}},
            "open_clip cannot build this model",
        ),
        ("preprocess_cfg", {"mean": ["x", 0, 0]}, "`preprocess_cfg` is not valid"),
        ("preprocess_cfg", {"std": [0, 0, 0]}, "`preprocess_cfg` is not valid"),
        ("preprocess_cfg", {"mean": [0.5]}, "`preprocess_cfg` is not valid"),
        ("preprocess_cfg", 3, "`preprocess_cfg` is not an object"),
    ],
)
def test_invalid_configurations_are_refused(
    tiny_clip: Path, tmp_path: Path, part: str, value: Any, message: str
) -> None:
    content = json.loads((tiny_clip / "open_clip_config.json").read_text()) | {part: value}
    (tmp_path / "open_clip_config.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match=message):
        build_start(folder_settings(tmp_path, pretrained="none"), CLASSES, seed=0)


def test_the_error_for_a_folder_without_weights_names_the_flag(tiny_clip: Path, tmp_path: Path) -> None:
    shutil.copy(tiny_clip / "open_clip_config.json", tmp_path)
    with pytest.raises(
        DataError, match=r"holds no weights\n  expected: open_clip_model\.safetensors(.|\n)*--pretrained FILE"
    ):
        build_start(folder_settings(tmp_path), CLASSES, seed=0)
    assert build_start(folder_settings(tmp_path, pretrained="none"), CLASSES, seed=0).architecture.name == "custom"
    with pytest.raises(UsageError, match="--pretrained openai: neither a file nor a tag"):
        build_start(folder_settings(tmp_path, pretrained="openai"), CLASSES, seed=0)


def test_quick_gelu_reaches_the_network() -> None:
    config = {"embed_dim": 8, "vision_cfg": {"image_size": 16, **TOWERS["vision transformer"]}}
    quick, plain = (
        build_empty(Architecture(family="open_clip", name="custom", quick_gelu=quick, config=config), ["a"])
        for quick in (True, False)
    )
    assert any(type(module).__name__ == "QuickGELU" for module in quick.modules())
    assert not any(type(module).__name__ == "QuickGELU" for module in plain.modules())


@pytest.mark.parametrize(
    "architecture",
    [
        Architecture(family="elsewhere", name="x"),
        Architecture(family="open_clip", name="ViT-Z-99"),
        Architecture(family="open_clip", name="ViT-B-32", quick_gelu=True, config=None),
        Architecture(family="open_clip", name="custom"),
        Architecture(family="open_clip", name="custom", config={"embed_dim": 8}),
        Architecture(family="open_clip", name="custom", config={"embed_dim": 8, "vision_cfg": {"layers": 10**9}}),
        Architecture(family="open_clip", name="custom", config={"embed_dim": 10**12, "vision_cfg": {}}),
        Architecture(family="open_clip", name="custom", config={"embed_dim": 8, "vision_cfg": {"surprise": 1}}),
        Architecture(
            family="open_clip",
            name="custom",
            config={"embed_dim": 8, "vision_cfg": {"timm_model_name": "hf-hub:someone/something"}},
        ),
        Architecture(family="timm", name="hf-hub:someone/something"),
        Architecture(family="timm", name="no_such_net"),
    ],
)
def test_architectures_that_cannot_be_built_are_refused(architecture: Architecture) -> None:
    with pytest.raises(DataError, match=r"architecture '.*'"):
        build_empty(architecture, CLASSES)
