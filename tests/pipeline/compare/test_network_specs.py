"""The networks that `--models` names, and the settings of each."""

import pytest

from soups.core.errors import UsageError
from soups.data.settings import DataSettings
from soups.pipeline.compare.network_specs import NetworkSpec, parse_network_specs
from soups.pipeline.settings.compare import CompareSettings


def parse(*words: str) -> list[NetworkSpec]:
    return parse_network_specs(CompareSettings(models=words), "c")


def test_words_and_mappings_mean_the_same() -> None:
    words = "timm:vit_tiny_patch16_224 name=vit lr=1e-3 depth=6 patch_size=4"
    mapping = {
        "model": "timm:vit_tiny_patch16_224",
        "name": "vit",
        "lr": "1e-3",
        "model_args": {"depth": 6, "patch_size": 4},
    }
    data = DataSettings(data_location="x")
    (one,), (other,) = (
        parse_network_specs(CompareSettings.model_validate({"models": [each], "data": data}), "c")
        for each in (words, mapping)
    )
    assert one == other and one.label == "vit" and one.run_name == "c-vit"
    assert one.settings.model.model_args == ("depth=6", "patch_size=4") and one.settings.training.lr == 1e-3


def test_unknown_names_are_arguments_of_the_network() -> None:
    (spec,) = parse("baseline widths=[4,4] lr=0.5 image_size=32")
    assert spec.label == "baseline" and spec.settings.model.model_args == ("widths=[4,4]",)
    assert spec.settings.training.lr == 0.5 and spec.settings.model.image_size == 32


def test_runs_are_named_after_the_networks_without_the_library() -> None:
    assert [spec.run_name for spec in parse("timm:resnet18", "ViT-B/32")] == ["c-resnet18", "c-ViT-B-32"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "--models is missing"),
        (("baseline", "baseline lr=1"), "'baseline' would have the run c-baseline, as 'baseline' has"),
        (("baseline name=comparison",), "would have the run c-comparison, as 'the table' has"),
        (("baseline lr",), "expected: \"MODEL NAME=VALUE NAME=VALUE ...\"\n  found:    'lr'"),
        (("baseline epochs=3",), "epochs is one for all networks\n  next:     give --epochs instead"),
        (("baseline lr=fast",), "--models 'baseline lr=fast': lr"),
    ],
)
def test_mistakes_in_a_word(words: tuple[str, ...], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse(*words)
    assert message in str(caught.value)
