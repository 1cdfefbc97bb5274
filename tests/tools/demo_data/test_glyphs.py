"""Glyphs and their captions."""

import numpy as np
import pytest

from soups.core.errors import EnvironmentFailure
from tools.demo_data import glyphs


@pytest.mark.parametrize(
    ("character", "name"),
    [("7", "digit seven"), ("Q", "capital letter q"), ("q", "small letter q"), ("?", "question mark")],
)
def test_names(character: str, name: str) -> None:
    assert glyphs.name_of(character) == name
    assert f"a photo of the {name}" in glyphs.captions_of(character)


def test_digits_answer_to_their_bare_word() -> None:
    assert {"a photo of a seven.", "seven"} <= set(glyphs.captions_of("7"))
    assert all("letter" in caption for caption in glyphs.captions_of("q"))


def test_no_caption_means_two_things() -> None:
    captions = [caption for character in glyphs.CHARACTERS for caption in glyphs.captions_of(character)]
    assert len(captions) == len(set(captions))


def test_every_font_draws_every_character_differently() -> None:
    for name in glyphs.FONTS:
        letters = {
            glyphs.letter_bitmap(glyphs.font_folder() / name, character).tobytes() for character in "0123456789?"
        }
        assert len(letters) == 11  # a font that lacks a character would draw the same box for it


def test_a_letter_fills_the_middle_of_its_field() -> None:
    letter = glyphs.letter_bitmap(glyphs.font_folder() / "DejaVuSans.ttf", "E")
    rows, columns = np.nonzero(letter)
    assert letter.shape == (glyphs.FIELD, glyphs.FIELD)
    assert rows.max() - rows.min() + 1 == pytest.approx(glyphs.LETTER, abs=1)
    assert columns.min() + columns.max() == pytest.approx(glyphs.FIELD, abs=2)


def test_thin_leaves_the_middle_line() -> None:
    thick = np.zeros((2, 20, 20), dtype=bool)
    thick[0, 5:10, 3:17] = True
    thick[1, 4:16, 4:16] = True
    thick[1, 7:13, 7:13] = False
    bar, ring = glyphs.thin(thick)
    assert bar[7, 6:14].all()
    assert bar.sum() == bar[7].sum()
    assert not (ring & ~thick[1]).any()
    assert ring.sum(axis=0).max() < 12 and ring[10].sum() == 2  # still a ring, now of one cell


def test_rendering_depends_on_its_generator_alone() -> None:
    atlas = glyphs.build_atlas()
    entries = np.flatnonzero(atlas.characters == glyphs.CHARACTERS.index("7"))
    one, same = (glyphs.render(atlas, entries, np.random.default_rng(3), glyphs.Variation()) for _ in range(2))
    other = glyphs.render(atlas, entries, np.random.default_rng(4), glyphs.Variation())
    assert one.shape == (len(entries), 32, 32) and one.dtype == np.uint8
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)


def test_glyphs_look_like_the_digits() -> None:
    atlas = glyphs.build_atlas()
    entries = np.flatnonzero(atlas.characters < 10)
    images = glyphs.render(atlas, entries, np.random.default_rng(0), glyphs.Variation()) / 255
    assert 0.2 < images.mean() < 0.4  # scikit-learn's digits: 0.31
    assert (images.max(axis=(1, 2)) > 0.4).all()  # none is empty
    # Nothing finer than the 8 x 8 counts is left: halving and enlarging loses little.
    spectrum = np.abs(np.fft.fft2(images)) ** 2
    assert spectrum[:, 9:24, 9:24].sum() < 0.001 * spectrum.sum()


def test_without_distortion_the_letter_is_drawn_as_it_is() -> None:
    still = glyphs.Variation(
        turn=0,
        slant=(0, 0),
        height=(32, 32),
        evenness=0,
        widen=0,
        balance=0,
        shift=0,
        mesh=0,
        weight=(0, 0),
        contrast=(1, 1),
        noise=0,
    )
    atlas = glyphs.build_atlas()
    entry = np.array([glyphs.CHARACTERS.index("E")])  # of the first font, printed
    image = glyphs.render(atlas, entry, np.random.default_rng(0), still)[0]
    letter = glyphs.letter_bitmap(glyphs.font_folder() / glyphs.FONTS[0], "E")
    rows, columns = np.nonzero(letter)
    upright = letter[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    assert image.sum(axis=1)[0] > 100  # reaches the upper edge
    assert image[:, :16].mean() > image[:, 16:].mean()  # an E's back is on the left
    assert image.mean() / 255 == pytest.approx(upright.sum() * (32 / glyphs.LETTER) ** 2 / 32**2, rel=0.15)


def test_missing_fonts_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(glyphs, "FONTS", ("NoSuchFont.ttf",))
    with pytest.raises(EnvironmentFailure, match=r"matplotlib's fonts are missing(.|\n)*found: *no NoSuchFont.ttf"):
        glyphs.build_atlas.__wrapped__()
