"""Model settings: defaults, refused values, and imports without heavy libraries."""

import subprocess
import sys

import pytest
from pydantic import ValidationError

from soups.models.settings import ModelSettings


def test_defaults_are_the_papers_model() -> None:
    settings = ModelSettings()
    assert (settings.model, settings.pretrained, settings.head) == ("ViT-B/32", None, "auto")
    assert settings.templates == ("a photo of a {}.",)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"templates": ()}, "at least one template"),
        ({"templates": ("a {}", "a photo")}, "'a photo' has no {} for the class name"),
        ({"model": " "}, "expected a name"),
        ({"model": "timm:"}, "expected a name"),
        ({"model": "local-dir:"}, "expected a name"),
        ({"head": "zeroshot"}, "'auto', 'zero-shot' or 'random'"),
        ({"pretrain": "openai"}, "Extra inputs are not permitted"),
    ],
)
def test_invalid_settings_are_refused(wrong: dict, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        ModelSettings(**wrong)


def test_importing_the_modules_loads_no_heavy_library() -> None:
    script = (
        "import sys, soups.models.settings, soups.models.build, soups.models.load, soups.models.download\n"
        "heavy = {'torch', 'open_clip', 'timm', 'torchvision', 'PIL'} & set(sys.modules)\n"
        "sys.exit(f'loaded: {heavy}' if heavy else 0)"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
