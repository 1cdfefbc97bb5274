"""Preprocessing parameters, stored in a checkpoint's card, and the normalisation of pixels."""

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveInt

if TYPE_CHECKING:
    import torch

Triple = tuple[float, float, float]
Positive = Annotated[float, Field(gt=0)]


class Preprocessing(BaseModel):
    """Parameters of the deterministic conversion of a decoded RGB image to a normalised input.

    With `cut`, the image is first centre-cropped. Then it is resized to `round(size / crop_fraction)` (its shorter
    side, or both sides with `squash`), a centred square of `size` pixels is cropped, each channel is scaled to [0, 1],
    `mean` is subtracted, and the difference is divided by `std`.
    """

    # A card may be hostile: the limits exclude infinite values, divisions by zero and images that exhaust the memory.
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    size: int = Field(gt=0, le=16_384)
    """Side of the square input, in pixels."""
    mean: Triple
    """Mean of each channel (red, green, blue), in [0, 1]."""
    std: tuple[Positive, Positive, Positive]
    """Standard deviation of each channel (red, green, blue), in [0, 1]."""
    interpolation: Literal["bicubic", "bilinear", "nearest", "lanczos"] = "bicubic"
    """Resampling filter (antialiased, as in Pillow)."""
    resize: Literal["shortest", "squash"] = "shortest"
    """`shortest` resizes the shorter side and crops; `squash` resizes both sides and ignores the aspect ratio."""
    cut: tuple[PositiveInt, PositiveInt] | None = Field(default=None, exclude_if=lambda cut: cut is None)
    """Height and width in pixels of the centre crop of the original image, before resizing; a smaller image is not
    cropped."""
    crop_fraction: float = Field(default=1.0, ge=0.1, le=1)
    """Side of the cropped square as a fraction of the resized image (timm's `crop_pct`)."""

    @property
    def resized(self) -> int:
        """Return the shorter side in pixels after resizing, or both sides with `squash`; at least `size`."""
        return max(self.size, round(self.size / self.crop_fraction))


def normalise(images: "torch.Tensor", preprocessing: Preprocessing) -> "torch.Tensor":
    """Normalise pixels to model inputs.

    Args:
        images: (N, H, W, 3) uint8, RGB in [0, 255], on any device.
        preprocessing: the source of `mean` and `std`.

    Returns:
        (N, 3, H, W) float32, contiguous, on the same device.
    """
    import torch

    mean = torch.tensor(preprocessing.mean, device=images.device).view(1, 3, 1, 1)
    std = torch.tensor(preprocessing.std, device=images.device).view(1, 3, 1, 1)
    pixels = images.permute(0, 3, 1, 2).to(torch.float32).div(255)
    return pixels.sub_(mean).div_(std).contiguous()
