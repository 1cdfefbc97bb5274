"""Icons of people and their captions, and a base trained on them briefly."""

from pathlib import Path

import numpy as np
import pytest

from tools.demo_data import icons
from tools.demo_data.base import CONFIG, make_base
from tools.demo_data.pretraining_batches import SUBJECTS
from tools.demo_data.settings import BaseSettings

TINY = BaseSettings(
    subject="faces",
    epochs=2,
    icons=64,
    batch_size=16,
    layers=1,
    width=32,
    embed_dim=16,
    text_width=32,
)


def icon(**values: str) -> icons.Icon:
    plain = {name: levels[0] for name, levels in icons.LEVELS.items()}
    return icons.Icon(**{**plain, **values})


def test_every_level_occurs_as_often_as_every_other() -> None:
    rng = np.random.default_rng(0)
    drawn = [icons.draw_icon(rng) for _ in range(3000)]
    for name, levels in icons.LEVELS.items():
        shares = [sum(getattr(each, name) == level for each in drawn) / len(drawn) for level in levels]
        assert max(abs(share - 1 / len(levels)) for share in shares) < 0.04
    pairs = [(each.mask == "mask", each.gender == "male") for each in drawn]
    assert abs(np.corrcoef(np.array(pairs).T)[0, 1]) < 0.06


def test_a_caption_says_what_the_icon_shows_and_nothing_else() -> None:
    rng = np.random.default_rng(1)
    for _ in range(300):
        shown = icons.draw_icon(rng)
        for names in icons.draw_attribute_sets(rng):
            text = icons.caption({name: getattr(shown, name) for name in names}, rng)
            words = set(text.replace("/", " ").replace(".", "").split())
            for name in names:
                own = getattr(shown, name)
                caption_words = {own, *(w for phrase in icons.PHRASES[name][own] for w in phrase.split())}
                assert words & caption_words, (words, name)
    assert icons.caption({"mask": "mask", "gender": "female", "age": "old"}, np.random.default_rng(0))


def test_no_caption_has_a_word_that_the_vocabulary_lacks() -> None:
    known = {word for text in icons.all_texts() for word in text.replace("/", " / ").strip(".").split()}
    rng = np.random.default_rng(2)
    for _ in range(300):
        shown = icons.draw_icon(rng)
        for names in icons.draw_attribute_sets(rng):
            text = icons.caption({name: getattr(shown, name) for name in names}, rng)
            assert set(text.replace("/", " / ").strip(".").split()) <= known


def test_captions_match_the_pixels() -> None:
    def pixels(**values: str) -> np.ndarray:
        picture = icons.render(icon(background="white", **values), np.random.default_rng(5), variety=0.0)
        assert picture.size == (48, 48) and picture.mode == "RGB"
        return np.asarray(picture).astype(int)

    bare = pixels(mask="normal")
    for values in ({"mask": "mask"}, {"mask": "incorrect"}, {"gender": "female"}, {"age": "old"}, {"hat": "yes"}):
        assert (np.abs(pixels(**{"mask": "normal", **values}) - bare).max(axis=2) > 40).sum() > 25, values


def test_a_batch_has_several_caption_sets() -> None:
    batches = list(SUBJECTS["faces"].batches(TINY.with_defaults(), 0))
    assert [len(batch.images) for batch in batches] == [16] * 4
    for batch in batches:
        assert batch.images.shape == (16, 48, 48, 3) and batch.images.dtype == np.uint8
        assert len(batch.caption_sets[0].captions) == 18 and [
            len(caption_set.captions) for caption_set in batch.caption_sets[1:4]
        ] == [3, 2, 3]
        for caption_set in batch.caption_sets:
            assert caption_set.targets.shape == (16,) and caption_set.targets.max() < len(caption_set.captions)


def test_open_clip_loads_the_base_and_every_subject_has_a_place_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import open_clip
    import torch

    monkeypatch.setenv("SOUPS_CACHE", str(tmp_path))
    folder = make_base(TINY)
    assert (folder / CONFIG).is_file() and make_base(TINY) == folder
    model, _, _ = open_clip.create_model_and_transforms(f"local-dir:{folder}")
    tokens = open_clip.get_tokenizer(f"local-dir:{folder}")(["a photo of a mask female old."])
    with torch.no_grad():
        image_features, text_features = model.encode_image(torch.randn(2, 3, 48, 48)), model.encode_text(tokens)
    assert image_features.shape == (2, 16) and text_features.isfinite().all()
    digits = BaseSettings().identity()
    assert "icons" not in digits and "subject" not in digits and digits["batch_size"] == 64
    assert TINY.identity()["subject"] == "faces" and "glyphs" not in TINY.identity()
