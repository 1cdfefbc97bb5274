"""Settings of explanations; free of torch, so that `--help` is quick."""

from pydantic import BaseModel, ConfigDict, Field

from soups.core.errors import unknown_name

AUTO = "auto"
NAMES = ("cam", "gradcam", "gradcam++", "layercam", "rollout", "relevance")
"""The methods, as in `soups.explain.methods.METHODS`, which needs torch."""


def check_method(name: str) -> None:
    """Refuse a name that is no method, before anything is loaded.

    Raises:
        UsageError: lists the known ones.
    """
    if name != AUTO and name not in NAMES:
        raise unknown_name("method", name, (AUTO, *NAMES))


class MapSettings(BaseModel):
    """How maps are made and measured."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: str = AUTO
    """`auto`: relevance of ViT, gradcam++ of others. Of convolutional networks, Swin and ViT: gradcam, gradcam++ or
    layercam; cam where the head follows global average pooling; of ViT also rollout and relevance, which look at
    attention."""
    target_layer: str | None = None
    """The module whose output is looked at, such as `layer3`; by default the last one that knows places."""
    faithfulness: int = Field(default=24, ge=0)
    """Measure on so many images, spread over the set, how the probability falls while the pixels that the map calls
    important are taken away, and rises while they are put in; 0 measures nothing."""
    steps: int = Field(default=16, gt=0)
    """In how many steps pixels are taken away or put in."""
    random_maps: int = Field(default=3, gt=0)
    """Random maps that each map is compared with."""
