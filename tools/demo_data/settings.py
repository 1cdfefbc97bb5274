"""What the demo's data and base are made with. Torch-free: reading this costs nothing."""

from pathlib import Path
from typing import Any, Literal

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


class GeneratedDigitsSettings(BaseModel):
    """Real against generated: handwritten digits, and digits sampled from a model that was fitted on their writers."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    location: Path = Path("data/fake_or_real")
    """Folder to make; its parent is made where needed."""
    image_size: int = Field(32, ge=8, le=512)
    """Side of the square images, in pixels."""
    val_writers: int = Field(3, ge=2, le=5)
    """How many of the thirteen writers go to val/."""
    test_writers: int = Field(4, ge=2, le=6)
    """How many go to test/; the others go to train/."""
    components: int = Field(15, ge=2, le=60)
    """Principal components of the generator, 15 in scikit-learn's example; more have more detail, and more noise."""
    seed: int = Field(0, ge=0)
    """Decides which writers are in which set, and what is sampled."""


class FacesSettings(BaseModel):
    """Drawn people as the mask competition has them: seven photos each, labels in the names, some of them wrong."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    location: Path = Path("data/faces")
    """Folder to make; its parent is made where needed."""
    train_people: int = Field(240, ge=4, le=500_000)
    """People in train/, with seven photos each."""
    test_people: int = Field(160, ge=1, le=400_000)
    """People in eval/, with seven photos each."""
    seed: int = Field(0, ge=0)
    """Decides who the people are, how they look, and which labels are wrong."""
    female: float = Field(0.61, ge=0, le=1)
    """Part of the people who are women."""
    young: float = Field(0.47, ge=0, le=1)
    """Part of the people under 30."""
    old: float = Field(0.08, ge=0, le=1)
    """Part of the people from 60 on."""
    doubtful_hair: float = Field(0.15, ge=0, le=1)
    """Part of the people whose hair says little of their gender."""
    doubtful_masks: float = Field(0.17, ge=0, le=0.5)
    """Part of the photos without a mask in which that is hard to tell; twice as many of masks worn wrongly."""
    wrong_gender: float = Field(0.05, ge=0, le=0.3)
    """Part of the training people whose folder names the other gender."""
    wrong_masks: float = Field(0.05, ge=0, le=0.3)
    """Part of the training people whose photos incorrect_mask and normal are exchanged, or wear the mask well in
    incorrect_mask."""
    wrong_age: float = Field(0.025, ge=0, le=0.3)
    """Part of the training people whose folder names an age of another band."""
    jobs: int = Field(2, ge=1)
    """Processes that draw, at most the cores; the bytes do not depend on it."""


OWN_NUMBERS: dict[str, dict[str, float]] = {
    "digits": {"batch_size": 64, "lr": 2e-3, "width": 128, "text_layers": 2},
    "faces": {"batch_size": 32, "lr": 1e-3, "width": 64, "text_layers": 1},
}
"""Subject → what its base has where nothing is asked for."""
# The digits' subject is left out too, so that bases made before there was another keep their place in the cache.
_OF_OTHERS = {"digits": {"subject", "icons"}, "faces": {"glyphs", "digit_share", "pen_share"}}


class BaseSettings(BaseModel):
    """A demo's start: a tiny CLIP pre-trained on captioned glyphs (for digits) or icons of people (for faces)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    subject: Literal["digits", "faces"] = "digits"
    """Which demo it is the start of."""
    seed: int = Field(0, ge=0)
    """Decides pictures, captions, initial weights and order."""
    epochs: int = Field(7, ge=1)
    """Passes; every pass draws fresh pictures."""
    glyphs: int = Field(12_000, ge=1)
    """Glyphs rendered for one epoch (digits)."""
    icons: int = Field(8_000, ge=1)
    """Icons drawn for one epoch (faces)."""
    batch_size: int = Field(0, ge=0)
    """Pictures in one contrastive batch; 0: 64 for digits, 32 for faces."""
    lr: float = Field(0.0, ge=0)
    """Peak learning rate of AdamW, after a linear warm-up, before a cosine to zero; 0: 2e-3 for digits, 1e-3 for
    faces."""
    weight_decay: float = Field(0.05, ge=0)
    """Decoupled weight decay on matrices; biases and gains have none."""
    warmup: float = Field(0.1, ge=0, le=1)
    """Part of all steps over which the learning rate rises."""
    digit_share: float = Field(0.6, ge=0, le=1)
    """Part of the glyphs that are digits; the others are letters and punctuation (digits)."""
    pen_share: float = Field(0.5, ge=0, le=1)
    """Part of the glyphs drawn along the printed letter's middle line, as with a pen (digits)."""
    layers: int = Field(4, ge=1)
    """Transformer layers of the visual tower."""
    width: int = Field(0, ge=0)
    """Width of the visual tower, a multiple of 32 (the width of a head); 0: 128 for digits, 64 for faces."""
    embed_dim: int = Field(64, ge=8)
    """Width of the space that images and captions share."""
    text_layers: int = Field(0, ge=0)
    """Transformer layers of the text tower; 0: 2 for digits, 1 for faces."""
    text_width: int = Field(64, ge=32)
    """Width of the text tower, a multiple of 32."""
    threads: int = Field(1, ge=1)
    """Processor threads, at most the cores. Others give other bits; two crawl where other work keeps a core busy."""

    def settled(self) -> "BaseSettings":
        """With the subject's own number for each 0 that stands for one."""
        own = {name: value for name, value in OWN_NUMBERS[self.subject].items() if getattr(self, name) == 0}
        return self.model_copy(update=own)

    def that_matter(self) -> dict[str, Any]:
        """What decides the weights, as JSON values: not the settings of the other subject."""
        return self.settled().model_dump(mode="json", exclude=_OF_OTHERS[self.subject])

    @property
    def images(self) -> int:
        """Pictures of one epoch."""
        return self.glyphs if self.subject == "digits" else self.icons
