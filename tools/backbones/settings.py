"""Settings of `scripts/try_backbones.py`; imports no torch, so that `--help` is fast."""

from pydantic import BaseModel, ConfigDict

from soups.runtime.devices import RuntimeSettings

BACKBONES = (
    "baseline",
    "timm:vgg16",
    "timm:vgg19",
    "timm:resnet34",
    "timm:resnext50_32x4d",
    "timm:resnext101_32x8d",
    "timm:efficientnet_b3",
    "timm:efficientnet_b4",
    "timm:efficientnet_b5",
    "timm:tf_efficientnetv2_b0",
    "timm:vit_tiny_patch16_224 patch_size=4 img_size=32 embed_dim=128 num_heads=8 depth=6",
    "timm:vit_tiny_patch16_224 patch_size=2 img_size=32 embed_dim=128 num_heads=8 depth=6",
    "timm:vit_base_patch16_clip_384.laion2b_ft_in1k",
    "timm:swin_tiny_patch4_window7_224",
    "timm:swin_base_patch4_window7_224.ms_in22k",
    "timm:swinv2_tiny_window8_256",
    "timm:convnext_large.fb_in22k_ft_in1k_384",
    "ViT-B/32",
    "RN50",
)
"""The backbones named by the systems that this toolkit replaces, and two CLIP towers."""


class BackboneSettings(BaseModel):
    """Try backbones: build each with random weights, train a step with two seeds, load, soup and vote.

    Uses a few generated images at the smallest input size of each backbone. Successful trials are not repeated. Exit
    code 5 if a backbone failed. The table goes to stdout and, as CSV, to the output folder.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    backbones: tuple[str, ...] = BACKBONES
    """Backbones to try, each a --model followed by its --model-args, in quotes."""
    output: str = "backbones"
    """Folder of the table, the log and the temporary runs."""
    runtime: RuntimeSettings = RuntimeSettings()
