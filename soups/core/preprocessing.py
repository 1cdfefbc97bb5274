"""How an image becomes a model's input: values that travel with the model in its card."""

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveInt

if TYPE_CHECKING:
    import torch

Triple = tuple[float, float, float]
Positive = Annotated[float, Field(gt=0)]


class Preprocessing(BaseModel):
    """The deterministic way from a decoded RGB image to a normalised input.

    With `cut`, only the middle of the image is looked at. The image is resized to `round(size / crop_fraction)` (its
    shorter side, or both sides with `squash`), a centred square of `size` pixels is cut out, and each channel, scaled
    to [0, 1], has `mean` subtracted and is divided by `std`.
    """

    # The values may come from a hostile card: nothing infinite, no division by zero, no image that fills the memory.
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    size: int = Field(gt=0, le=16_384)
    """Side of the square input, in pixels."""
    mean: Triple
    """Mean of each channel (red, green, blue), in [0, 1]."""
    std: tuple[Positive, Positive, Positive]
    """Standard deviation of each channel (red, green, blue), in [0, 1]."""
    interpolation: Literal["bicubic", "bilinear", "nearest", "lanczos"] = "bicubic"
    """Filter of the resizing (antialiased, as Pillow does it)."""
    resize: Literal["shortest", "squash"] = "shortest"
    """Bring the shorter side to the size and cut, or ignore the aspect ratio."""
    cut: tuple[PositiveInt, PositiveInt] | None = Field(default=None, exclude_if=lambda cut: cut is None)
    """Height and width of the middle of the image that is kept before anything else, in its own pixels; of a smaller
    image, all there is."""
    crop_fraction: float = Field(default=1.0, ge=0.1, le=1)
    """Side of the cut square as a fraction of the resized image (timm's `crop_pct`)."""

    @property
    def resized(self) -> int:
        """Pixels of the shorter side after resizing, or of both sides with `squash`; at least `size`."""
        return max(self.size, round(self.size / self.crop_fraction))


def normalise(images: "torch.Tensor", preprocessing: Preprocessing) -> "torch.Tensor":
    """Model inputs from pixels.

    Args:
        images: (N, H, W, 3) uint8, RGB in [0, 255], on any device.
        preprocessing: gives mean and std.

    Returns:
        (N, 3, H, W) float32, contiguous, on the same device.
    """
    import torch

    mean = torch.tensor(preprocessing.mean, device=images.device).view(1, 3, 1, 1)
    std = torch.tensor(preprocessing.std, device=images.device).view(1, 3, 1, 1)
    pixels = images.permute(0, 3, 1, 2).to(torch.float32).div(255)
    return pixels.sub_(mean).div_(std).contiguous()
