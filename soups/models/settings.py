"""Settings of the network and its initial weights. Imports no torch, so that `--help` is quick."""

from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from soups.models.model_args import ModelArguments, format_model_args, parse_model_args

DEFAULT_DOWNLOAD_URL = "https://github.com/mlfoundations/model-soups/releases/download/v0.0.2"
"""Address of the model-soups paper's 72 models."""
DEFAULT_TEMPLATES = ("a photo of a {}.",)


class ModelSettings(BaseModel):
    """The network and its initial weights."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    RARE: ClassVar = ("model_args",)

    model: str = "ViT-B/32"
    """Architecture: a name of open_clip (`ViT-B/32`, `ViT-L-14`, …), `timm:NAME`, `hf-hub:ORG/NAME` (timm's hub),
    `local-dir:FOLDER` (open_clip's hub layout; timm's: `timm:local-dir:FOLDER`), or `baseline` (three convolutions)."""
    model_args: tuple[str, ...] | None = None
    """Constructor arguments of timm's network, such as `patch_size=4 img_size=32 embed_dim=128 num_heads=8 depth=6`;
    `pre_logits=False` removes the hidden layers of a VGG; `widths=[32,64,128]` sets the channels of baseline. Published
    weights are loaded only if they fit; otherwise start with --pretrained none."""
    pretrained: str | None = None
    """A tag of open_clip or timm, a weights file, or `none` for random weights; by default OpenAI's weights, or the
    first tag if OpenAI published none."""
    templates: tuple[str, ...] = DEFAULT_TEMPLATES
    """Prompts that the zero-shot head averages over; `{}` stands for the class name, with spaces for underscores."""
    image_size: int | None = Field(default=None, ge=16, le=4096)
    """Side of the input in pixels, for baseline and for timm networks that support other sizes; by default the size of
    the published weights."""
    head: Literal["auto", "zero-shot", "random"] = "auto"
    """Initial head: zero-shot (from the text tower) or random; `auto` is zero-shot if the weights include a text
    tower."""

    @property
    def arguments(self) -> ModelArguments:
        """`model_args`, parsed."""
        return parse_model_args(self.model_args or ())

    @field_validator("model_args", mode="before")
    @classmethod
    def _accept_mapping(cls, value: Any) -> Any:
        return format_model_args(value) if isinstance(value, dict) else value

    @field_validator("model_args")
    @classmethod
    def _sort_and_format(cls, value: tuple[str, ...] | None) -> tuple[str, ...] | None:
        # One order and one spelling, so that equal arguments compare equal to those recorded in a run.
        return format_model_args(dict(sorted(parse_model_args(value or ()).items()))) or None

    @field_validator("model")
    @classmethod
    def _require_name(cls, model: str) -> str:
        if not model.strip() or model.endswith(":"):
            raise ValueError("expected a name, such as ViT-B/32, timm:resnet50, baseline or local-dir:FOLDER")
        return model

    @field_validator("templates")
    @classmethod
    def _require_placeholder(cls, templates: tuple[str, ...]) -> tuple[str, ...]:
        if not templates:
            raise ValueError("expected at least one template")
        for template in templates:
            if "{}" not in template:
                raise ValueError(f"template {template!r} has no {{}} for the class name")
        return templates


def is_random(settings: ModelSettings) -> bool:
    """Return whether the settings ask for random weights, of the backbone too."""
    return settings.pretrained == "none" or (settings.pretrained is None and settings.model == "baseline")
