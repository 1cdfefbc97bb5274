"""A folder with odd file names, image sizes and colour modes, through all commands."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import finetune
import inference
import main
import validation
from soups.data.images.decode import decode

SIZES = ((30, 300), (300, 30), (64, 64), (17, 19), (1, 1))


def turned(picture: Image.Image, path: Path) -> None:
    """Save an image rotated, with the EXIF tag that says so."""
    exif = Image.Exif()
    exif[274] = 6
    picture.transpose(Image.Transpose.ROTATE_90).save(path.with_suffix(".jpg"), exif=exif)


def deep(picture: Image.Image, path: Path) -> None:
    """Save an image in grey with 16 bits a pixel."""
    Image.fromarray(np.asarray(picture.convert("L")).astype(np.uint16) * 257).save(path.with_suffix(".png"))


def with_alpha(picture: Image.Image, path: Path) -> None:
    """Save an image with a transparent border."""
    picture.putalpha(Image.linear_gradient("L").resize(picture.size))
    picture.save(path.with_suffix(".PNG"))


SAVERS: dict[str, Callable[[Image.Image, Path], None]] = {
    "grey ü": lambda picture, path: picture.convert("L").save(path.with_suffix(".JPG")),
    "cmyk #1": lambda picture, path: picture.convert("CMYK").save(path.with_suffix(".jpeg")),
    "palette & co": lambda picture, path: picture.convert("P").save(path.with_suffix(".gif")),
    "two tones": lambda picture, path: picture.convert("1").save(path.with_suffix(".bmp")),
    "007": lambda picture, path: picture.save(path.with_suffix(".webp")),
    "sixteen": deep,
    "alpha%20": with_alpha,
    "turned": turned,
}


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Three classes with awkward names, and files that are no images."""
    generator = np.random.default_rng(0)
    root = tmp_path / "my photos"
    for name, colour in {"Katze é": (210, 60, 60), "no": (60, 210, 60), "1e-5": (60, 60, 210)}.items():
        (root / name).mkdir(parents=True)
        for number, (file, save) in enumerate(SAVERS.items()):
            width, height = SIZES[number % len(SIZES)]
            noise = generator.integers(-40, 40, (height, width, 3))
            save(Image.fromarray(np.clip(np.array(colour) + noise, 0, 255).astype(np.uint8)), root / name / file)
        (root / name / "Thumbs.db").write_bytes(b"litter")
        (root / name / "notes.txt").write_text("no image")
    (root / ".ipynb_checkpoints").mkdir()
    return root


def test_odd_images_pass_through_all_commands(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_clip: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    model = ["--model", f"local-dir:{tiny_clip}", "--precision", "fp32", "--threads", "1"]
    training = ["--i", "0-1", "--epochs", "1", "--lr", "1e-3", "--batch-size", "8", "--val-ratio", "0.25"]
    assert finetune.main(["--data-location", "my photos", *model, *training]) == 0
    assert "left out 3 files that are no images that can be read" in capsys.readouterr().err
    assert (tmp_path / "runs" / "latest").read_text() == "my-photos\n"
    assert main.main(["--eval-individual-models", "--uniform-soup", "--greedy-soup", "--report"]) == 0
    assert inference.main(["--soft-voting", "--test-location", "my photos/no", "--output", "answers.csv"]) == 0
    answers = pd.read_csv("answers.csv", dtype=str)
    assert {Path(image).stem for image in answers["image"]} == set(SAVERS)
    assert set(answers["target"]) <= {"Katze é", "no", "1e-5"}
    assert validation.main([]) == 0
    samples = pd.read_csv("runs/my-photos/samples.csv", dtype=str)
    assert set(samples["label"]) == {"Katze é", "no", "1e-5"}
    assert len(samples) == 3 * len(SAVERS)


def test_odd_images_are_decoded_with_the_right_orientation_and_colours(photos: Path) -> None:
    for path in sorted((photos / "no").glob("*.*")):
        if path.suffix in (".db", ".txt"):
            continue
        pixels = decode(path)
        assert pixels.dtype == np.uint8 and pixels.shape[2] == 3
        with Image.open(path) as picture:
            width, height = picture.size
        upright = (width, height) if path.stem == "turned" else (height, width)
        assert pixels.shape[:2] == upright
        if path.stem in ("cmyk #1", "turned", "007", "palette & co"):
            assert pixels[..., 1].mean() > pixels[..., 0].mean() + 50
