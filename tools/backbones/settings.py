"""What `scripts/try_backbones.py` can be told; free of torch, so that `--help` is quick."""

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
"""Those that the systems name which this toolkit replaces, and two of CLIP's towers."""


class BackboneSettings(BaseModel):
    """Try backbones: each is built from random weights, trained for a step with two seeds, loaded, souped and voted.

    On a few generated images, at the smallest input that each allows. What went well is not repeated; exit code 5 where
    something failed. The table goes to stdout and, as CSV, to the output folder.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    backbones: tuple[str, ...] = BACKBONES
    """What to try: a --model, with its --model-args after it, in one pair of quotes."""
    output: str = "backbones"
    """Folder of the table, the log and, for as long as it is tried, each backbone's run."""
    runtime: RuntimeSettings = RuntimeSettings()
