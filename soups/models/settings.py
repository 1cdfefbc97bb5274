"""What network a run fine-tunes, and where it starts. Torch-free: reading this costs nothing."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from soups.models.model_args import Arguments, format_model_args, parse_model_args

DEFAULT_TEMPLATES = ("a photo of a {}.",)


class ModelSettings(BaseModel):
    """The network and its start."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str = "ViT-B/32"
    """Any architecture of open_clip (`ViT-B/32`, `ViT-L-14`, …), `timm:NAME`, `hf-hub:ORG/NAME` (timm's hub),
    `local-dir:FOLDER` (open_clip's hub layout; timm's: `timm:local-dir:FOLDER`), or `baseline` (three convolutions)."""
    model_args: tuple[str, ...] | None = None
    """Build timm's network otherwise: `patch_size=4 img_size=32 embed_dim=128 num_heads=8 depth=6`, a VGG without its
    hidden layers: `pre_logits=False`, or baseline's: `widths=[32,64,128]`. Published weights are taken only where they
    fit; else start with --pretrained none."""
    pretrained: str | None = None
    """A tag of open_clip or timm, a file of weights, or `none` for random weights; by default OpenAI's weights, else
    the first tag there is."""
    templates: tuple[str, ...] = DEFAULT_TEMPLATES
    """Prompts that the zero-shot head averages over; `{}` stands for the class name, underscores shown as spaces."""
    image_size: int | None = Field(default=None, ge=16, le=4096)
    """Side of the input in pixels, of baseline and of timm's networks that can be built for it; by default the one that
    they were trained with."""
    head: Literal["auto", "zero-shot", "random"] = "auto"
    """How the head starts: from the text tower, or at random; `auto` is zero-shot where there are weights of a text
    tower."""

    @property
    def arguments(self) -> Arguments:
        """`model_args`, read."""
        return parse_model_args(self.model_args or ())

    @field_validator("model_args", mode="before")
    @classmethod
    def _mapping_too(cls, given: Any) -> Any:
        return format_model_args(given) if isinstance(given, dict) else given

    @field_validator("model_args")
    @classmethod
    def _readable(cls, given: tuple[str, ...] | None) -> tuple[str, ...] | None:
        # In one order and one spelling, so that a run knows its own again.
        return format_model_args(dict(sorted(parse_model_args(given or ()).items()))) or None

    @field_validator("model")
    @classmethod
    def _names_a_model(cls, model: str) -> str:
        if not model.strip() or model.endswith(":"):
            raise ValueError("expected a name, such as ViT-B/32, timm:resnet50, baseline or local-dir:FOLDER")
        return model

    @field_validator("templates")
    @classmethod
    def _templates_take_a_name(cls, templates: tuple[str, ...]) -> tuple[str, ...]:
        if not templates:
            raise ValueError("expected at least one template")
        for template in templates:
            if "{}" not in template:
                raise ValueError(f"template {template!r} has no {{}} for the class name")
        return templates
