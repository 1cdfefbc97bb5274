"""Exported programs: the same logits for any number of images, with the metadata in the file."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch

from soups.core.errors import EnvironmentFailure
from soups.models import exports
from soups.models.build import build_start
from soups.models.exports import EXPORTERS, Exporter, require_packages
from soups.models.settings import ModelSettings


@pytest.mark.parametrize("kind", list(EXPORTERS))
def test_an_exported_program_gives_the_logits_of_the_classifier(kind: str, tmp_path: Path) -> None:
    if missing := [name for name in EXPORTERS[kind].packages if importlib.util.find_spec(name) is None]:
        pytest.skip(f"needs {', '.join(missing)}")
    settings = ModelSettings(model="baseline", model_args=("widths=[4]",), image_size=16, pretrained="none")
    classifier = build_start(settings, ("a", "b"), seed=0).classifier
    path = tmp_path / f"model{EXPORTERS[kind].suffix}"
    EXPORTERS[kind].write(classifier, 16, path, {"card": "text"})
    images = np.random.default_rng(0).random((3, 3, 16, 16), dtype=np.float32)
    with torch.no_grad():
        expected = classifier(torch.from_numpy(images)).numpy()
    for count in (1, 3):
        np.testing.assert_allclose(EXPORTERS[kind].run(path, images[:count]), expected[:count], atol=1e-5)


def test_the_error_for_a_missing_package_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    exporter = EXPORTERS["torch"]
    needs = Exporter(".x", ("no_such_package",), exporter.write, exporter.run)
    monkeypatch.setitem(exports.EXPORTERS, "x", needs)
    with pytest.raises(EnvironmentFailure, match=r"--format x: (.|\n)*python -m pip install no_such_package"):
        require_packages("x")
