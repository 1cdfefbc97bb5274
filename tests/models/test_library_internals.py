"""The private functions of open_clip and timm that `soups.models` uses: what breaks if a release changes them."""

import importlib
import importlib.metadata
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

TOWER = {"image_size": 16, "patch_size": 8, "layers": 1, "width": 64, "head_width": 32}
TEXT = {"context_length": 4, "vocab_size": 8, "width": 8, "heads": 1, "layers": 1}


def private_function(package: str, module: str, name: str, used_by: str) -> Any:
    """Returns a function of a library, or fails with the release and the code of ours that needs it."""
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError):
        release = f"{package} {importlib.metadata.version(package)}"
        pytest.fail(f"{release} has no {module}.{name}, which {used_by} calls: find its successor")


def test_open_clip_builds_an_image_tower_alone() -> None:
    build = private_function(
        "open_clip_torch", "open_clip.model", "_build_vision_tower", "soups.models.open_clip.build.build_image_tower"
    )
    tower = build(12, dict(TOWER), True)
    assert tower(torch.zeros(2, 3, 16, 16)).shape == (2, 12), "no longer (embed_dim, vision_cfg) → (N, embed_dim)"
    names = {type(module).__name__ for module in tower.modules()}
    assert "QuickGELU" in names, "the third argument no longer switches quick-GELU on"


def test_open_clip_converts_the_keys_of_other_formats() -> None:
    used_by = "soups.models.open_clip.build._convert_state"
    to_custom = private_function("open_clip_torch", "open_clip.model", "convert_to_custom_text_state_dict", used_by)
    convert = private_function("open_clip_torch", "open_clip.convert", "convert_state_dict", used_by)
    import open_clip

    config: dict[str, Any] = {"embed_dim": 8, "vision_cfg": TOWER, "text_cfg": TEXT}
    plain, custom = open_clip.CLIP(**config), open_clip.CustomTextCLIP(**config)
    state = plain.state_dict()
    assert convert(plain, dict(state)).keys() == state.keys(), "keys of open_clip's own format changed"
    assert to_custom(state).keys() == custom.state_dict().keys(), "no longer the keys of CustomTextCLIP"


def test_open_clip_completes_a_preprocessing_with_defaults() -> None:
    used_by = "soups.models.open_clip.names.evaluation_preprocessing"
    defaults = private_function("open_clip_torch", "open_clip.transform", "PreprocessCfg", used_by)()
    merge = private_function("open_clip_torch", "open_clip.transform", "merge_preprocess_dict", used_by)
    merged = merge(defaults, {"std": 0.5, "interpolation": None})
    assert merged["std"] == 0.5 and len(merged["mean"]) == 3, "no longer the given values, else the defaults"
    assert (merged["interpolation"], merged["resize_mode"]) == ("bicubic", "shortest"), "None is not ignored"


def test_timm_groups_names_by_rules() -> None:
    used_by = "soups.models.stages"
    group = private_function("timm", "timm.models._manipulate", "group_with_matcher", used_by)
    join_previous = private_function("timm", "timm.models._manipulate", "MATCH_PREV_GROUP", used_by)
    rules = {"stem": r"^stem", "blocks": [(r"^blocks\.(\d+)", None), (r"^norm", join_previous)]}
    names = ("stem.weight", "blocks.0.weight", "blocks.1.weight", "norm.weight", "head.weight")
    found = group(((name, None) for name in names), rules)
    assert [found[layer] for layer in sorted(found)] == [[name] for name in names[:2]] + [
        ["blocks.1.weight", "norm.weight"],
        ["head.weight"],
    ], "rules are no longer (pattern, suffix) with unmatched names in the last group"


def test_our_copy_of_timms_group_mark_is_current() -> None:
    from soups.models.stages import _JOIN_PREVIOUS

    mark = private_function("timm", "timm.models._manipulate", "MATCH_PREV_GROUP", "soups.models.stages")
    assert mark == _JOIN_PREVIOUS, "timm's mark changed: update soups.models.stages._JOIN_PREVIOUS"


def test_timm_writes_and_reads_a_config_file(tmp_path: Path) -> None:
    import timm

    save = private_function(
        "timm", "timm.models._hub", "save_config_for_hf", "soups.models.timm.hub_folder._make_config"
    )
    load = private_function(
        "timm", "timm.models._hub", "load_model_config_from_path", "soups.models.timm.names (local-dir:)"
    )
    model = timm.create_model("test_vit", num_classes=2)
    path = tmp_path / "config.json"
    save(model, str(path), model_config={"label_names": ["a", "b"]}, data_config={"crop_pct": 0.5})
    written = json.loads(path.read_text(encoding="utf-8"))
    assert written["architecture"] == "test_vit" and written["label_names"] == ["a", "b"]
    assert written["pretrained_cfg"]["crop_pct"] == 0.5, "data_config no longer overrides pretrained_cfg"
    config, name, arguments = load(str(tmp_path))
    found = name, arguments.get("num_classes"), config["crop_pct"]
    assert found == ("test_vit", 2, 0.5), "no longer (pretrained_cfg, name, arguments)"


def test_timm_reads_a_config_from_the_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    load = private_function("timm", "timm.models", "load_model_config_from_hf", "soups.models.timm.names (hf-hub:)")
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"architecture": "test_vit", "pretrained_cfg": {"crop_pct": 0.5}, "num_classes": 2}))
    monkeypatch.setattr("timm.models._hub.download_cached_file", lambda *_, **__: str(path), raising=False)
    monkeypatch.setattr("timm.models._hub.hf_hub_download", lambda *_, **__: str(path))
    config, name, arguments = load("org/name")
    assert (name, arguments, config["crop_pct"]) == ("test_vit", {}, 0.5), "no longer (pretrained_cfg, name, arguments)"


def test_timm_reports_input_sizes_and_builder_arguments() -> None:
    used_by = "soups.models.timm"
    read_input = private_function("timm", "timm.models", "get_model_input_config", f"{used_by}.build")
    builder = private_function("timm", "timm.models", "build_model_with_cfg", f"{used_by}.constructor")
    resolve = private_function("timm", "timm.models", "resolve_pretrained_cfg", f"{used_by}.names")
    deprecated = private_function("timm", "timm.models", "get_deprecated_models", f"{used_by}.names")
    import inspect

    import timm

    config = read_input(timm.create_model("test_vit"))
    assert config["input_size"] == (3, 160, 160) and "fixed_input_size" in config
    assert {"pretrained", "pretrained_cfg"} <= inspect.signature(builder).parameters.keys()
    assert resolve("test_vit").to_dict()["input_size"] == (3, 160, 160)
    assert deprecated(), "no deprecated names: exact_name would not translate them"


def test_torch_has_one_base_class_of_batchnorm() -> None:
    base = private_function(
        "torch", "torch.nn.modules.batchnorm", "_BatchNorm", "soups.evaluation.batchnorm.batchnorm_layers"
    )
    assert all(issubclass(kind, base) for kind in (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm))
