"""Settings of explanations. Imports no torch, so that `--help` is quick."""

from typing import ClassVar

from pydantic import BaseModel, ConfigDict, Field

from soups.core.errors import unknown_name
from soups.core.packages import require_package

AUTO = "auto"
NAMES = ("cam", "gradcam", "gradcam++", "layercam", "rollout", "relevance")
"""Names of the methods in `soups.explain.methods.METHODS`, which imports torch."""
_GRADIENT_NAMES = ("gradcam", "gradcam++", "layercam")
"""Those whose formulas are the grad-cam library's."""


def check_method(name: str) -> None:
    """Checks that a method exists and can be used here, before anything is loaded.

    Raises:
        UsageError: the method is unknown; the message lists the methods.
        EnvironmentFailure: the method needs the grad-cam library, which is not installed.
    """
    if name != AUTO and name not in NAMES:
        raise unknown_name("method", name, (AUTO, *NAMES))
    if name in _GRADIENT_NAMES:
        require_package("pytorch_grad_cam", f"--method {name}", "grad-cam")


class MapSettings(BaseModel):
    """How maps are made and measured."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    RARE: ClassVar = ("steps", "random_maps")

    method: str = AUTO
    """Method. `auto`: relevance for ViT, gradcam++ for other networks. gradcam, gradcam++ and layercam support
    convolutional networks, Swin and ViT; cam supports networks whose head follows global average pooling; rollout and
    relevance use the attention matrices of ViT."""
    target_layer: str | None = None
    """Module whose output is explained, such as `layer3`; by default the last one that outputs a feature map."""
    faithfulness: int = Field(default=24, ge=0)
    """Number of images, evenly spaced over the set, on which to measure deletion and insertion: how the probability
    falls when the map's most important pixels are deleted, and rises when they are inserted. 0: no measurement."""
    steps: int = Field(default=16, gt=0)
    """Number of steps of deletion and insertion."""
    random_maps: int = Field(default=3, gt=0)
    """Number of random maps that each map is compared with."""
