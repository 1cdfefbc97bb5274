"""Settings of `scripts/simulate_choice.py`; imports no torch, so that `--help` is fast."""

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field


class SimulationSettings(BaseModel):
    """Measure how often each rule takes a model that is worse than the best single model.

    The network is timm's `tf_efficientnet_lite0`. All of its stages but the last are frozen, and their features are
    computed once. Each pool is a set of fine-tunes of the last stage and the head from one start. Each draw takes some
    of the test images for validation, applies every rule to them, and scores what the rule takes on the other test
    images. The logits of each subset of a pool are computed once. An interrupted command continues when it is repeated.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    data: Path = Path("cifar10")
    """Folder with train/<class>/ and test/<class>/."""
    pretrained: Path | None = None
    """Start: a state dict with the tensors of `tf_efficientnet_lite0` in timm's order. By default random weights."""
    output: Path = Path("choice_simulation")
    """Folder of features, fine-tunes, logits and results."""
    pools: tuple[str, ...] | None = None
    """Kinds of pools to simulate. By default all."""
    repeats: int = Field(2, ge=1)
    """Pools of each kind; they differ in their half of the training images, in hyperparameters and seeds."""
    models: int = Field(8, ge=2, le=10)
    """Fine-tunes of a pool."""
    train_images: int = Field(4000, ge=2)
    """Training images drawn from train/, the same number of each class."""
    sizes: tuple[int, ...] = (50, 60, 100, 200, 500, 1000, 2000)
    """Numbers of validation images."""
    draws: int = Field(200, ge=2)
    """Draws of validation images for each pool and size."""
    folds: int = Field(5, ge=2)
    """Folds of the cross-fitting."""
    image_size: int = Field(64, ge=32)
    """Side of the network's input in pixels."""
    seed: int = Field(0, ge=0)
    """Seed of images, views, fine-tunes and draws."""
