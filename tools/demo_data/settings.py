"""Settings of the demo's data and start models; imports no torch."""

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field


class DigitsSettings(BaseModel):
    """The embedded data set: handwritten digits of thirteen writers as PNG files."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    location: Path = Path("data/digits")
    """Folder to make; parent folders are created."""
    image_size: int = Field(32, ge=8, le=512)
    """Side of the square images, in pixels."""
    test_writers: int = Field(5, ge=1, le=11)
    """Number of the thirteen writers in test/; the others are in train/."""
    seed: int = Field(0, ge=0)
    """Seed of the test writers, and of the shifts' noise and directions."""
    rotation: float = Field(25.0, gt=0, lt=180)
    """Rotation of the shifts rotate_left and rotate_right, in degrees."""
    noise: float = Field(0.2, gt=0, le=2)
    """Standard deviation of the shift noise; 1 is the range from black to white."""
    blur: float = Field(3.0, gt=0)
    """Radius (standard deviation) of the shift blur, in pixels of a 32-pixel image."""
    translation: float = Field(5.0, gt=0, lt=32)
    """Distance of the shift translate, in pixels of a 32-pixel image; the direction is random."""


class GeneratedDigitsSettings(BaseModel):
    """Real against generated: handwritten digits, and digits sampled from a model fitted on their writers."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    location: Path = Path("data/fake_or_real")
    """Folder to make; parent folders are created."""
    image_size: int = Field(32, ge=8, le=512)
    """Side of the square images, in pixels."""
    val_writers: int = Field(3, ge=2, le=5)
    """Number of the thirteen writers in val/."""
    test_writers: int = Field(4, ge=2, le=6)
    """Number of writers in test/; the others are in train/."""
    components: int = Field(15, ge=2, le=60)
    """Principal components of the generator (scikit-learn's example has 15); more components add detail and noise."""
    seed: int = Field(0, ge=0)
    """Seed of the split by writers and of the samples."""


class FacesSettings(BaseModel):
    """Drawn people in the mask competition's format: seven photos each, labels in file names, some of them wrong."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    location: Path = Path("data/faces")
    """Folder to make; parent folders are created."""
    train_people: int = Field(240, ge=4, le=500_000)
    """People in train/, with seven photos each."""
    test_people: int = Field(160, ge=1, le=400_000)
    """People in eval/, with seven photos each."""
    seed: int = Field(0, ge=0)
    """Seed of the people, their appearance and the wrong labels."""
    female: float = Field(0.61, ge=0, le=1)
    """Share of women."""
    young: float = Field(0.47, ge=0, le=1)
    """Share of people under 30."""
    old: float = Field(0.08, ge=0, le=1)
    """Share of people of 60 or older."""
    doubtful_hair: float = Field(0.15, ge=0, le=1)
    """Share of people whose hair does not show their gender."""
    doubtful_masks: float = Field(0.17, ge=0, le=0.5)
    """Share of ambiguous photos among those without a mask; for incorrectly worn masks it is twice as high."""
    wrong_gender: float = Field(0.05, ge=0, le=0.3)
    """Share of training people whose folder names the wrong gender."""
    wrong_masks: float = Field(0.05, ge=0, le=0.3)
    """Share of training people whose photos incorrect_mask and normal are swapped, or who wear the mask well in
    incorrect_mask."""
    wrong_age: float = Field(0.025, ge=0, le=0.3)
    """Share of training people whose folder names an age of the wrong band."""
    jobs: int = Field(2, ge=1)
    """Number of drawing processes, at most the number of cores; the bytes do not depend on it."""


SUBJECT_DEFAULTS: dict[str, dict[str, float]] = {
    "digits": {"batch_size": 64, "lr": 2e-3, "width": 128, "text_layers": 2},
    "faces": {"batch_size": 32, "lr": 1e-3, "width": 64, "text_layers": 1},
}
"""Subject → values that replace 0."""
# The subject `digits` is omitted too, so that cache keys of bases made before `faces` existed stay valid.
_OF_OTHERS = {"digits": {"subject", "icons"}, "faces": {"glyphs", "digit_share", "pen_share"}}


class BaseSettings(BaseModel):
    """A demo's start model: a tiny CLIP pre-trained on captioned glyphs (digits) or icons of people (faces)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    subject: Literal["digits", "faces"] = "digits"
    """The demo."""
    seed: int = Field(0, ge=0)
    """Seed of pictures, captions, initial weights and order."""
    epochs: int = Field(7, ge=1)
    """Number of epochs; every epoch draws new pictures."""
    glyphs: int = Field(12_000, ge=1)
    """Glyphs rendered per epoch (digits)."""
    icons: int = Field(8_000, ge=1)
    """Icons drawn per epoch (faces)."""
    batch_size: int = Field(0, ge=0)
    """Pictures per contrastive batch; 0: 64 for digits, 32 for faces."""
    lr: float = Field(0.0, ge=0)
    """Peak learning rate of AdamW, after a linear warm-up and before a cosine decay to zero; 0: 2e-3 for digits, 1e-3
    for faces."""
    weight_decay: float = Field(0.05, ge=0)
    """Decoupled weight decay of matrices; biases and gains have none."""
    warmup: float = Field(0.1, ge=0, le=1)
    """Share of all steps in the warm-up."""
    digit_share: float = Field(0.6, ge=0, le=1)
    """Share of digits among the glyphs; the others are letters and punctuation (digits)."""
    pen_share: float = Field(0.5, ge=0, le=1)
    """Share of glyphs drawn along the printed letter's middle line, as with a pen (digits)."""
    layers: int = Field(4, ge=1)
    """Transformer layers of the visual tower."""
    width: int = Field(0, ge=0)
    """Width of the visual tower, a multiple of 32 (the width of a head); 0: 128 for digits, 64 for faces."""
    embed_dim: int = Field(64, ge=8)
    """Dimension of the embedding space."""
    text_layers: int = Field(0, ge=0)
    """Transformer layers of the text tower; 0: 2 for digits, 1 for faces."""
    text_width: int = Field(64, ge=32)
    """Width of the text tower, a multiple of 32."""
    threads: int = Field(1, ge=1)
    """Processor threads, at most the number of cores. Other numbers give other bits; two threads are very slow if
    another process keeps a core busy."""

    def with_defaults(self) -> "BaseSettings":
        """Return the settings with each 0 replaced by the subject's value."""
        own = {name: value for name, value in SUBJECT_DEFAULTS[self.subject].items() if getattr(self, name) == 0}
        return self.model_copy(update=own)

    def identity(self) -> dict[str, Any]:
        """Return the settings that determine the weights, as JSON values, without those of the other subject."""
        return self.with_defaults().model_dump(mode="json", exclude=_OF_OTHERS[self.subject])

    @property
    def images(self) -> int:
        """Number of pictures per epoch."""
        return self.glyphs if self.subject == "digits" else self.icons
