"""Settings of a fine-tune; free of torch, so that `--help` is quick."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from soups.cli.flags import Flag


class TrainingSettings(BaseModel):
    """One fine-tune."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    # Fields that came when there were cards already have an `exclude_if`: at their defaults, which say how training was
    # before, they are not recorded, so that equal work keeps equal bytes.
    hparams: str = "fixed"
    """`fixed`: the flags below; `random`: row i drawn from the root seed; or a JSON file with an entry `model_<i>`."""
    random_seed: int = Field(default=0, ge=0)
    """Root seed of training: fine-tune i uses SeedSequence([random_seed, i])."""
    epochs: int = Field(default=10, gt=0)
    """Passes over the training images."""
    batch_size: int = Field(default=64, gt=0)
    """Images in one step."""
    lr: float = Field(default=2e-5, gt=0)
    """Peak learning rate, after the warm-up."""
    wd: float = Field(default=0.1, ge=0)
    """Weight decay of tensors with at least two dimensions."""
    optimizer: str = "adamw"
    """`adamw`, or any name of timm's optimiser factory: `adam`, `sgd` (Nesterov's momentum), `momentum` (the classical
    one), `rmsprop`, `lamb`, `muon`, …"""
    momentum: float = Field(default=0.9, ge=0, lt=1, exclude_if=lambda share: share == 0.9)
    """Of `sgd`, `momentum`, `rmsprop` and others that have one; `momentum` with 0 is plain gradient descent."""
    warmup: float = Field(default=0.1, ge=0, le=1)
    """Share of the steps over which the learning rate rises linearly; what --scheduler says follows."""
    scheduler: str = Field(default="cosine", exclude_if=lambda name: name == "cosine")
    """How the learning rate falls after the warm-up: `cosine` or `linear` to zero, `constant`, `step` and `exponential`
    (by --decay-rate every --decay-epochs), or `plateau` (by --decay-rate after so many epochs without a better
    validation by --metric)."""
    decay_epochs: int = Field(default=4, gt=0, exclude_if=lambda epochs: epochs == 4)
    """Schedulers step, exponential and plateau: epochs to a fall."""
    decay_rate: float = Field(default=0.1, gt=0, le=1, exclude_if=lambda rate: rate == 0.1)
    """Schedulers step, exponential and plateau: what is left of the learning rate after a fall."""
    clip: float = Field(default=1.0, ge=0)
    """Largest norm of the gradient; 0 leaves it alone."""
    loss_fn: str = "CrossEntropyLoss"
    """CrossEntropyLoss, LabelSmoothingLoss (the same, with --smoothing 0.1 unless told otherwise), FocalLoss, F1Loss,
    ContrastiveLoss (beside cross-entropy) or BCEWithLogitsLoss."""
    smoothing: float = Field(default=0.0, ge=0, lt=1)
    """Label smoothing."""
    focal_gamma: float = Field(default=2.0, ge=0)
    """FocalLoss: how much less an image counts that is right already."""
    contrastive_weight: float = Field(default=1.0, gt=0)
    """ContrastiveLoss: how much the contrast of features counts beside cross-entropy."""
    class_weights: tuple[str, ...] | None = None
    """How much images count in the loss: `CLASS=WEIGHT …` (a class, or a level of a factor), or `auto` for all classes
    alike."""
    mix: float = Field(default=0.0, ge=0)
    """Mixup: the Beta distribution's alpha; 0 for none."""
    augmentation: str = "crop"
    """What is done to training images: `crop` (slightly random crops), `randaugment` (and rand-m9-n2, where --aug names
    no other), `base` (resize and normalise), `none` (and never a RandAugment), `custom` (the middle 320 × 256 pixels,
    colour jitter, noise), or a YAML file of albumentations."""
    aug: str | None = None
    """RandAugment as timm writes it, such as `rand-m9-n2`, after what --augmentation does; None for none."""
    lp_epochs: int = Field(default=0, ge=0)
    """Epochs in which the head alone is trained before the whole model is (linear probe, then fine-tune)."""
    freeze_backbone: Flag = False
    """Train the head alone."""
    freeze: int = Field(default=0, ge=0, exclude_if=lambda stages: stages == 0)
    """Leave the first stages of the backbone as they are (the stem is the first; a transformer's blocks, a residual
    network's stages follow), the statistics of their BatchNorm included; 0 trains all."""
    layer_decay: float = Field(default=1.0, gt=0, le=1, exclude_if=lambda decay: decay == 1)
    """Layer-wise decay of the learning rate: it is multiplied with this once for each layer further from the head; 1
    for none."""
    patience: int | None = Field(default=None, gt=0)
    """Stop after so many epochs without a better validation by --metric, and keep the best epoch's weights."""
    validate_every: int = Field(default=1, ge=0)
    """Epochs between validations; 0 for one at the end. Early stopping and a plateau validate after each."""
    oversample: tuple[str, ...] | None = None
    """Training images to repeat: `CLASS=TIMES …` (or a level of a factor, `old=2`, `age=old=2`), or `auto` to bring
    each class up to the largest."""
    oversample_augment: str = "same"
    """What is done to the copies: `same` as to others (by another chance), `flip` (mirrored first), or any
    --augmentation."""
    old_aug: Flag = False
    """Short for --oversample age=old=2 --oversample-augment flip."""
    sampler: Literal["shuffled", "balanced"] = "shuffled"
    """Every training image once an epoch, or as many drawn so that all classes come alike."""
    start_from: str | None = None
    """A folder whose `model_<i>.pt` (or .safetensors) fine-tune i begins at, instead of the common start; or one such
    file."""

    @model_validator(mode="after")
    def _one_way_of_training(self) -> "TrainingSettings":
        if self.freeze_backbone and self.lp_epochs:
            raise ValueError("freeze_backbone trains the head alone already: leave lp_epochs out")
        if self.freeze_backbone and (self.freeze or self.layer_decay != 1):
            raise ValueError("freeze_backbone trains the head alone: leave freeze and layer_decay out")
        return self

    @model_validator(mode="after")
    def _one_way_of_balancing(self) -> "TrainingSettings":
        if self.old_aug and (self.oversample is not None or self.oversample_augment != "same"):
            raise ValueError("old_aug is short for oversample and oversample_augment: give it or them")
        if self.sampler == "balanced" and (self.old_aug or self.oversample is not None):
            raise ValueError("sampler balanced and oversample both balance the classes: give one of them")
        if self.augmentation == "none" and self.aug is not None:
            raise ValueError("augmentation none is without a RandAugment: leave aug out, or give augmentation base")
        return self


Bounds = tuple[float, float]


def _in_order(bounds: Bounds) -> Bounds:
    if not bounds[0] <= bounds[1]:
        raise ValueError(f"the lower end comes first, found {bounds[0]} {bounds[1]}")
    return bounds


class RandomRanges(BaseModel):
    """What `--hparams random` draws from; by default the ranges of the model-soups paper."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    lr_range: Bounds = (1e-6, 1e-4)
    """Learning rate, log-uniform."""
    wd_range: Bounds = (1e-4, 10**-0.2)
    """Weight decay, log-uniform."""
    epochs_range: tuple[int, int] = (4, 16)
    """Epochs, uniform, both ends included."""
    magnitude_range: tuple[int, int] = (0, 20)
    """RandAugment magnitude, uniform, both ends included."""
    operations_range: tuple[int, int] = (0, 2)
    """RandAugment operations, uniform, both ends included; 0 for none."""
    mix_range: Bounds = (0.0, 0.9)
    """Mixup, uniform, for one half of the models; the other half has none."""
    smoothing_range: Bounds = (0.0, 0.25)
    """Label smoothing, uniform, for one half of the models; the other half has none."""

    @model_validator(mode="after")
    def _ordered(self) -> "RandomRanges":
        for name, bounds in self:
            try:
                _in_order(bounds)
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from error
        for name in ("lr_range", "wd_range"):
            if getattr(self, name)[0] <= 0:
                raise ValueError(f"{name}: a log-uniform range is above zero")
        return self
