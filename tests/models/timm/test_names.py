"""Names, tags and folders of timm networks."""

from pathlib import Path

import pytest

from soups.core.errors import DataError, EnvironmentFailure, UsageError
from soups.models.build import build_start
from soups.models.settings import ModelSettings
from soups.models.timm.names import TimmSource, resolve_source

CLASSES = ("cat", "dog")


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        (ModelSettings(model="timm:resnet18"), "resnet18.a1_in1k"),
        (ModelSettings(model="timm:resnet18.tv_in1k"), "resnet18.tv_in1k"),
        (ModelSettings(model="timm:resnet18", pretrained="tv_in1k"), "resnet18.tv_in1k"),
    ],
)
def test_the_default_tag_is_timms_own(settings: ModelSettings, name: str) -> None:
    assert resolve_source(settings) == TimmSource(name, published=True)


def test_deprecated_names_are_replaced() -> None:
    settings = ModelSettings(model="timm:swin_base_patch4_window7_224_in22k")
    assert resolve_source(settings) == TimmSource("swin_base_patch4_window7_224.ms_in22k", published=True)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": "timm:resnt18"}, r"--model timm:resnt18: timm has no such model(.|\n)*did you mean resnet18"),
        ({"model": "timm:resnet18.nope"}, r"resnet18 has no tag 'nope'\n  expected: one of a1_in1k"),
        ({"model": "timm:resnet18", "pretrained": "a9_in1k"}, r"--pretrained a9_in1k: neither a file nor a tag"),
        ({"model": "timm:resnet18", "head": "zero-shot"}, "timm's models have no text tower"),
    ],
)
def test_unknown_names_are_refused(changes: dict, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        build_start(ModelSettings(**changes), CLASSES, seed=0)


def test_an_unreachable_configuration_is_an_environment_failure(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(
        EnvironmentFailure, match=r"could not fetch the configuration of hf-hub:a/b(.|\n)*--model timm:local-dir:FOLDER"
    ):
        build_start(ModelSettings(model="hf-hub:a/b"), CLASSES, seed=0)


def test_invalid_folders_in_timms_layout_are_refused(tmp_path: Path) -> None:
    def refused(content: str | None, message: str) -> None:
        if content is not None:
            (tmp_path / "config.json").write_text(content)
        with pytest.raises(DataError, match=message):
            build_start(ModelSettings(model=f"timm:local-dir:{tmp_path}"), CLASSES, seed=0)

    refused(None, r"holds no config\.json\n  expected: timm's hub layout")
    refused("{", r"its config\.json is not timm's")
    refused("{}", r"its config\.json is not timm's\n  expected: `architecture`")
    refused('{"architecture": "newer", "pretrained_cfg": {}}', "the installed timm does not know its architecture")
    with pytest.raises(DataError, match="no such folder"):
        build_start(ModelSettings(model=f"timm:local-dir:{tmp_path}/nowhere"), CLASSES, seed=0)
