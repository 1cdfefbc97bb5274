"""The site builds without a warning, and its pages load nothing from the network."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.pages import ROOT

pytestmark = pytest.mark.second_tier
_LOADED = re.compile(r"<(?:script|img|iframe|source)\b[^>]*\bsrc=[\"']?([^\"'\s>]+)|<link\b([^>]*)>")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    built = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    )
    assert built.returncode == 0, built.stdout + built.stderr
    return folder


def test_every_page_is_built(site: Path) -> None:
    pages = {path.relative_to(site).as_posix() for path in site.rglob("*.html")}
    assert {"index.html", "guide/troubleshooting.html", "reference/commands/finetune.html", "design.html"} <= pages


def test_pages_load_nothing_from_the_network(site: Path) -> None:
    for path in site.rglob("*.html"):
        for source, link in _LOADED.findall(path.read_text(encoding="utf-8")):
            loaded = source or ("" if "canonical" in link else link)
            assert not re.search(r"(?:https?:)?//", loaded), f"{path.name}: {loaded}"
    for path in site.rglob("*.css"):
        assert not re.search(r"url\([\"']?(?:https?:)?//", path.read_text(encoding="utf-8")), path.name


def test_flags_and_the_api_are_on_the_pages(site: Path) -> None:
    assert "--hparams" in (site / "reference/commands/finetune.html").read_text(encoding="utf-8")
    assert "predict_proba" in (site / "reference/api.html").read_text(encoding="utf-8")
    assert "soups finetune" in (site / "reference/index.html").read_text(encoding="utf-8")
