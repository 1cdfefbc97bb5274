"""What the commands that hand a model to others can be told; free of torch, so that `--help` is quick."""

from typing import Literal

from pydantic import Field

from soups.cli.flags import Flag
from soups.pipeline.settings.commands import CommandSettings


class PushSettings(CommandSettings):
    """Write a model into a folder that timm or open_clip loads without this project, with a model card; push it.

    The folder holds weights, configuration, README.md and our own card, with which soups.load gives the same model
    again. Logits are compared with the library's own before the folder counts as written.
    """

    model_name: str | None = None
    """The model: a path, a file name, or a name without ending; by default the greedy soup, or the best model by
    validation where there is none."""
    folder: str | None = None
    """The folder to write; one that has other content is refused."""
    repository: str | None = None
    """Where on the Hugging Face hub it belongs: `org/name`."""
    push: Flag = False
    """Push the folder to --repository, which is made if it is not there; needs a login (`hf auth login`, HF_TOKEN)."""
    private: Flag = False
    """Make a new repository one that only its owners see."""


class ExportSettings(CommandSettings):
    """Write a model as a file that runs without its code: torch.export (.pt2), ONNX (.onnx), or both.

    The file takes images (N, 3, S, S) float32, normalised as the metadata in it says, and gives logits (N, C). Before
    it counts as written, its logits of real images are compared with the model's.
    """

    model_name: str | None = None
    """The model: a path, a file name, or a name without ending; by default the greedy soup, or the best model by
    validation where there is none."""
    format: Literal["torch", "onnx", "both"] = "onnx"
    """The kind of file."""
    output: str | None = None
    """The file to write, or with `both` the two without ending; by default `output/<model>` in the model's run."""
    images: tuple[str, ...] | None = None
    """Images to compare on: files or folders; by default eight of the model's run."""
    tolerance: float = Field(default=1e-4, gt=0)
    """The largest difference of a logit that is allowed, as a part of the largest logit, or of 1 if that is smaller."""
