"""What network a run fine-tunes, and where it starts. Torch-free: reading this costs nothing."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

DEFAULT_TEMPLATES = ("a photo of a {}.",)


class ModelSettings(BaseModel):
    """The network and its start."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str = "ViT-B/32"
    """Any architecture of open_clip (`ViT-B/32`, `ViT-L-14`, …), `timm:NAME`, or `local-dir:FOLDER` (open_clip's hub
    layout)."""
    pretrained: str | None = None
    """A tag of open_clip or timm, a file of weights, or `none` for random weights; by default OpenAI's weights, else
    the first tag there is."""
    templates: tuple[str, ...] = DEFAULT_TEMPLATES
    """Prompts that the zero-shot head averages over; `{}` stands for the class name, underscores shown as spaces."""
    image_size: int | None = Field(default=None, ge=16, le=4096)
    """Side of the input in pixels, of timm's networks that take any; by default the one that they were trained with."""
    head: Literal["auto", "zero-shot", "random"] = "auto"
    """How the head starts: from the text tower, or at random; `auto` is zero-shot where there are weights of a text
    tower."""

    @field_validator("model")
    @classmethod
    def _names_a_model(cls, model: str) -> str:
        if not model.strip() or model in {"timm:", "local-dir:"}:
            raise ValueError("expected a name, such as ViT-B/32, timm:resnet50 or local-dir:FOLDER")
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
