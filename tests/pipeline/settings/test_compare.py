"""Networks of a settings file: mappings become one word each, as on the command line."""

from typing import Any

import pytest
from pydantic import ValidationError

from soups.pipeline.settings.compare import CompareSettings


@pytest.mark.parametrize(
    ("models", "words"),
    [
        ("timm:resnet18", ("timm:resnet18",)),
        (["ViT-B-32", {"model": "timm:resnet18", "lr": "1e-3"}], ("ViT-B-32", "timm:resnet18 lr=1e-3")),
        ([{"model": "m", "model_args": "depth=2 width=3", "name": "n"}], ("m name=n depth=2 width=3",)),
        ([{"model": "m", "model_args": ["depth=2"]}], ("m depth=2",)),
        ([{"model": "m", "model_args": {"depth": "2"}}], ("m depth=2",)),
    ],
)
def test_networks_become_words(models: Any, words: tuple[str, ...]) -> None:
    assert CompareSettings.model_validate({"models": models}).models == words


def test_a_network_without_its_model_is_refused() -> None:
    with pytest.raises(ValidationError, match="expected `model` among the settings of each network"):
        CompareSettings.model_validate({"models": [{"lr": "1e-3"}]})
