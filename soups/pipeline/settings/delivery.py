"""Settings classes of push-to-hub and export. Torch-free, so that `--help` is quick."""

from typing import Literal

from pydantic import Field

from soups.cli.flags import Flag
from soups.pipeline.settings.commands import OneModelSettings


class PushSettings(OneModelSettings):
    """Write a model as a folder that timm or open_clip loads without this project, with a model card, and push it.

    The folder holds weights, configuration, README.md and our card, with which soups.load gives the same model again.
    Before the folder is finished, its logits are compared with the library's own.
    """

    folder: str | None = None
    """Folder to write. A folder with other content is refused."""
    repository: str | None = None
    """Repository on the Hugging Face hub: `org/name`."""
    push: Flag = False
    """Push the folder to --repository, which is created if it does not exist. Needs a login (`hf auth login`,
    HF_TOKEN)."""
    private: Flag = False
    """Create the repository as private."""


class ExportSettings(OneModelSettings):
    """Write a model as a file that runs without its code: torch.export (.pt2), ONNX (.onnx), or both.

    The file takes images (N, 3, S, S) float32, normalised as its metadata says, and returns logits (N, C). Before it is
    finished, its logits of real images are compared with the model's.
    """

    format: Literal["torch", "onnx", "both"] = "onnx"
    """File format."""
    output: str | None = None
    """File to write, without ending for `both`. By default `output/<model>` in the model's run."""
    images: tuple[str, ...] | None = None
    """Images for the comparison: files or folders. By default eight images of the model's run."""
    tolerance: float = Field(default=1e-4, gt=0)
    """Largest allowed difference of a logit, relative to the largest logit, or to 1 if that is smaller."""
