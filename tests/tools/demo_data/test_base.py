"""The tiny CLIP: trained briefly, loaded by open_clip without changes."""

import logging
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from tools.demo_data import base, glyphs
from tools.demo_data.pretraining_batches import SUBJECTS, draw_entries
from tools.demo_data.settings import BaseSettings

TINY = BaseSettings(
    epochs=2, glyphs=96, batch_size=32, layers=1, width=32, embed_dim=16, text_layers=1, text_width=32, threads=1
)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def made(cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SOUPS_CACHE", str(cache))
    return base.make_base(TINY)


def test_open_clip_loads_it_natively(made: Path) -> None:
    import open_clip

    model, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{made}")
    tokenizer = open_clip.get_tokenizer(f"local-dir:{made}")
    tokens = tokenizer(["a photo of the digit seven", "a photo of a never seen platypus"])
    assert tokens.shape == (2, 16)
    with torch.no_grad():
        images = model.encode_image(torch.randn(3, 3, 32, 32))
        captions = model.encode_text(tokens)
    assert images.shape == (3, 16) and captions.shape == (2, 16)
    assert images.isfinite().all() and captions.isfinite().all()
    # Its preprocessing gives the inputs of its training.
    grey = np.random.default_rng(0).integers(0, 256, (1, 32, 32), dtype=np.uint8)
    from PIL import Image

    expected = SUBJECTS["digits"].to_input(grey)[0].expand(3, -1, -1)
    torch.testing.assert_close(preprocess(Image.fromarray(grey[0])), expected)


def test_its_folder_depends_on_its_settings(made: Path, cache: Path) -> None:
    assert made == base.base_folder(TINY)
    assert made.parent == cache / "base"
    assert {path.name for path in made.iterdir()} == {base.CONFIG, base.WEIGHTS}
    assert base.base_folder(TINY.model_copy(update={"seed": 1})) != made


def test_a_second_call_finds_it_without_torch(made: Path) -> None:
    before = (made / base.WEIGHTS).stat().st_mtime_ns
    code = (
        "import sys; from tools.demo_data.base import make_base; from tools.demo_data.settings import BaseSettings;"
        "print(make_base(BaseSettings.model_validate_json(sys.argv[1])));"
        "assert not {'torch', 'open_clip', 'matplotlib'} & set(sys.modules)"
    )
    found = subprocess.run([sys.executable, "-c", code, TINY.model_dump_json()], check=True, capture_output=True)
    assert found.stdout.decode().strip() == str(made)
    assert (made / base.WEIGHTS).stat().st_mtime_ns == before


def test_equal_settings_give_equal_bytes(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOUPS_CACHE", str(tmp_path))
    state = torch.get_rng_state()
    again = base.make_base(TINY)
    assert (again / base.WEIGHTS).read_bytes() == (made / base.WEIGHTS).read_bytes()
    assert torch.equal(torch.get_rng_state(), state)


def test_nothing_is_left_when_training_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setenv("SOUPS_CACHE", str(tmp_path))
    monkeypatch.setattr(base, "contrastive_loss", stop)
    with pytest.raises(KeyboardInterrupt):
        base.make_base(TINY)
    assert [path for path in (tmp_path / "base").iterdir() if path.suffix != ".lock"] == []


def test_each_epoch_is_logged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("SOUPS_CACHE", str(tmp_path))
    with caplog.at_level(logging.INFO, logger="soups.tools.demo_data.base"):
        base.make_base(TINY)
    assert [record.getMessage()[:20] for record in caplog.records] == ["base: epoch 1 of 2, ", "base: epoch 2 of 2, "]


def test_loss_against_a_slow_reference() -> None:
    torch.manual_seed(0)
    images = torch.nn.functional.normalize(torch.randn(7, 5, dtype=torch.float64), dim=1)
    captions = torch.nn.functional.normalize(torch.randn(4, 5, dtype=torch.float64), dim=1)
    scale, targets = (
        torch.tensor(3.0, dtype=torch.float64),
        torch.tensor([0, 1, 1, 3, 3, 3, 0]),
    )  # none has caption 2
    forward = 0.0
    for image, target in zip(images, targets, strict=True):
        odds = [torch.exp(scale * image @ caption) for caption in captions]
        forward -= float(torch.log(odds[target] / sum(odds))) / len(images)
    backward = 0.0
    for number in (0, 1, 3):
        odds = [torch.exp(scale * image @ captions[number]) for image in images]
        own = [odds[i] / sum(odds) for i in range(7) if targets[i] == number]
        backward -= sum(float(torch.log(share)) for share in own) / len(own) / 3
    assert float(base.contrastive_loss(images, captions, scale, targets)) == pytest.approx((forward + backward) / 2)


def test_shares_of_digits_and_pen() -> None:
    atlas = glyphs.build_atlas()
    settings = TINY.model_copy(update={"glyphs": 20_000, "digit_share": 0.7, "pen_share": 0.4})
    entries = draw_entries(atlas, np.random.default_rng(0), settings)
    assert np.mean(atlas.characters[entries] < 10) == pytest.approx(0.7, abs=0.02)
    assert np.mean(atlas.thickness[entries] == 0) == pytest.approx(0.4, abs=0.02)


def test_unused_words_have_zero_embeddings(made: Path) -> None:
    from safetensors.torch import load_file

    words = load_file(made / base.WEIGHTS)["token_embedding.weight"]
    assert words.shape == (base.VOCABULARY, 32)
    assert 0 < (words.abs().sum(dim=1) > 0).sum() < 200
