"""What the demo's data and base are made with. Torch-free: reading this costs nothing."""

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field


class DigitsSettings(BaseModel):
    """The embedded data set: thirteen people's handwritten digits as PNG files."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    location: Path = Path("data/digits")
    """Folder to make; its parent is made where needed."""
    image_size: int = Field(32, ge=8, le=512)
    """Side of the square images, in pixels."""
    test_writers: int = Field(5, ge=1, le=11)
    """How many of the thirteen writers go to test/; the others go to train/."""
    seed: int = Field(0, ge=0)
    """Decides which writers test, and the noise and directions of the shifts."""
    rotation: float = Field(25.0, gt=0, lt=180)
    """Degrees turned in the shifts rotate_left and rotate_right."""
    noise: float = Field(0.2, gt=0, le=2)
    """Standard deviation of the shift noise; 1 is the distance from black to white."""
    blur: float = Field(3.0, gt=0)
    """Radius (standard deviation) of the shift blur, in pixels of a 32-pixel image."""
    translation: float = Field(5.0, gt=0, lt=32)
    """Distance moved in the shift translate, in pixels of a 32-pixel image; the direction is random."""


class BaseSettings(BaseModel):
    """The demo's start: a tiny CLIP pre-trained on captioned glyphs."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    seed: int = Field(0, ge=0)
    """Decides glyphs, captions, initial weights and order."""
    epochs: int = Field(7, ge=1)
    """Passes; every pass renders fresh glyphs."""
    glyphs: int = Field(12_000, ge=1)
    """Glyphs rendered for one epoch."""
    batch_size: int = Field(64, ge=2)
    """Glyphs in one contrastive batch."""
    lr: float = Field(2e-3, gt=0)
    """Peak learning rate of AdamW, after a linear warm-up, before a cosine to zero."""
    weight_decay: float = Field(0.05, ge=0)
    """Decoupled weight decay on matrices; biases and gains have none."""
    warmup: float = Field(0.1, ge=0, le=1)
    """Part of all steps over which the learning rate rises."""
    digit_share: float = Field(0.6, ge=0, le=1)
    """Part of the glyphs that are digits; the others are letters and punctuation."""
    pen_share: float = Field(0.5, ge=0, le=1)
    """Part of the glyphs drawn along the printed letter's middle line, as with a pen."""
    layers: int = Field(4, ge=1)
    """Transformer layers of the visual tower."""
    width: int = Field(128, ge=32)
    """Width of the visual tower, a multiple of 32 (the width of a head)."""
    embed_dim: int = Field(64, ge=8)
    """Width of the space that images and captions share."""
    text_layers: int = Field(2, ge=1)
    """Transformer layers of the text tower."""
    text_width: int = Field(64, ge=32)
    """Width of the text tower, a multiple of 32."""
    threads: int = Field(1, ge=1)
    """Processor threads, at most the cores. Others give other bits; two crawl where other work keeps a core busy."""
