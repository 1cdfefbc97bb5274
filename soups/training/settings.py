"""Settings of a fine-tune; torch-free, so that `--help` is quick."""

from typing import ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from soups.cli.flags import Flag


class TrainingSettings(BaseModel):
    """Settings of one fine-tune."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    RARE: ClassVar = (
        *("momentum", "decay_epochs", "decay_rate", "clip", "focal_gamma", "contrastive_weight"),
        *("freeze", "layer_decay", "validate_every", "oversample_augment", "old_aug", "sampler"),
    )

    # Fields that are newer than the first cards have an `exclude_if`: their defaults, which describe the training
    # before, are not recorded, so that equal work keeps equal bytes.
    hparams: str = "fixed"
    """Source of the hyperparameters. `fixed`: the flags below; `random`: row i, drawn with the root seed; a JSON file
    with an entry `model_<i>`; or, in the settings file of a run, `recorded`."""
    random_seed: int = Field(default=0, ge=0)
    """Root seed of training: fine-tune i uses SeedSequence([random_seed, i])."""
    epochs: int = Field(default=10, gt=0)
    """Passes over the training images."""
    batch_size: int = Field(default=64, gt=0)
    """Images per step."""
    lr: float = Field(default=2e-5, gt=0)
    """Peak learning rate, after the warm-up."""
    wd: float = Field(default=0.1, ge=0)
    """Weight decay of tensors with at least two dimensions."""
    optimizer: str = "adamw"
    """`adamw`, or any name of timm's optimiser factory: `adam`, `sgd` (Nesterov momentum), `momentum` (classical
    momentum), `rmsprop`, `lamb`, `muon`, …"""
    momentum: float = Field(default=0.9, ge=0, lt=1, exclude_if=lambda share: share == 0.9)
    """Momentum of `sgd`, `momentum`, `rmsprop` and other optimisers that have one; `momentum` with 0 is plain gradient
    descent."""
    warmup: float = Field(default=0.1, ge=0, le=1)
    """Share of the steps over which the learning rate rises linearly, from 0 to 1; --scheduler decides the rest."""
    scheduler: str = Field(default="cosine", exclude_if=lambda name: name == "cosine")
    """Learning rate after the warm-up: `cosine` or `linear` to zero, `constant`, `step` or `exponential` (times
    --decay-rate every --decay-epochs), or `plateau` (times --decay-rate after --decay-epochs epochs without a better
    validation score by --metric)."""
    decay_epochs: int = Field(default=4, gt=0, exclude_if=lambda epochs: epochs == 4)
    """Schedulers step, exponential and plateau: epochs per decay."""
    decay_rate: float = Field(default=0.1, gt=0, le=1, exclude_if=lambda rate: rate == 0.1)
    """Schedulers step, exponential and plateau: factor of the learning rate at each decay."""
    clip: float = Field(default=1.0, ge=0)
    """Maximum norm of the gradient; 0: no clipping."""
    loss_fn: str = "CrossEntropyLoss"
    """CrossEntropyLoss, LabelSmoothingLoss (cross-entropy with --smoothing 0.1 by default), FocalLoss, F1Loss,
    ContrastiveLoss (added to cross-entropy) or BCEWithLogitsLoss."""
    smoothing: float = Field(default=0.0, ge=0, lt=1)
    """Label smoothing: share of the target that is spread over all classes."""
    focal_gamma: float = Field(default=2.0, ge=0)
    """FocalLoss: focusing parameter gamma; larger values reduce the loss of images that are already right."""
    contrastive_weight: float = Field(default=1.0, gt=0)
    """ContrastiveLoss: weight of the contrastive term beside cross-entropy."""
    class_weights: tuple[str, ...] | None = None
    """Weights of images in the loss: `CLASS=WEIGHT …` (a class, or a level of a factor), or `auto` to give all classes
    the same total weight."""
    mix: float = Field(default=0.0, ge=0)
    """Mixup: alpha of the Beta distribution; 0: no mixup."""
    augmentation: str = "crop"
    """Training augmentation: `crop` (slightly random crops), `randaugment` (crops, then rand-m9-n2 unless --aug names
    another), `base` (resize and normalise), `none` (as base, and never RandAugment), `custom` (the middle 320 × 256
    pixels, colour jitter, noise), or a YAML file of albumentations."""
    aug: str | None = None
    """RandAugment in timm's notation, such as `rand-m9-n2`, applied after --augmentation; None: no RandAugment."""
    lp_epochs: int = Field(default=0, ge=0)
    """Epochs in which only the head is trained before all weights are (linear probing, then fine-tuning)."""
    freeze_backbone: Flag = False
    """Train only the head."""
    freeze: int = Field(default=0, ge=0, exclude_if=lambda stages: stages == 0)
    """Number of stages of the backbone to freeze, statistics of BatchNorm included: the stem is the first, a
    transformer's blocks or a residual network's stages follow. 0: all weights are trained."""
    layer_decay: float = Field(default=1.0, gt=0, le=1, exclude_if=lambda decay: decay == 1)
    """Layer-wise decay of the learning rate: factor per layer of distance from the head; 1: no decay."""
    patience: int | None = Field(default=None, gt=0)
    """Early stopping: stop after this many epochs without a better validation score by --metric, and keep the best
    epoch's weights."""
    validate_every: int = Field(default=1, ge=0)
    """Epochs between validations; 0: validate only at the end. Early stopping and the plateau scheduler validate after
    each epoch."""
    oversample: tuple[str, ...] | None = None
    """Training images to repeat: `CLASS=TIMES …` (or a level of a factor, `old=2`, `age=old=2`), or `auto` to bring
    each class up to the size of the largest."""
    oversample_augment: str = "same"
    """Augmentation of the copies: `same` as for other images (drawn anew), `flip` (mirrored first), or any value of
    --augmentation."""
    old_aug: Flag = False
    """Short for --oversample age=old=2 --oversample-augment flip."""
    sampler: Literal["shuffled", "balanced"] = "shuffled"
    """`shuffled`: every training image once an epoch; `balanced`: as many images, drawn so that all classes are equally
    frequent."""
    start_from: str | None = None
    """Folder in which fine-tune i finds its own start `model_<i>.pt` (or .safetensors), instead of the common start; or
    one such file."""

    @model_validator(mode="after")
    def _check_contradictions(self) -> "TrainingSettings":
        if self.freeze_backbone and self.lp_epochs:
            raise ValueError("freeze_backbone already trains only the head: leave lp_epochs out")
        if self.freeze_backbone and (self.freeze or self.layer_decay != 1):
            raise ValueError("freeze_backbone trains only the head: leave freeze and layer_decay out")
        if self.old_aug and (self.oversample is not None or self.oversample_augment != "same"):
            raise ValueError("old_aug is short for oversample and oversample_augment: use one of them")
        if self.sampler == "balanced" and (self.old_aug or self.oversample is not None):
            raise ValueError("sampler balanced and oversample both balance the classes: use one of them")
        if self.augmentation == "none" and self.aug is not None:
            raise ValueError("augmentation none is without a RandAugment: leave aug out, or use augmentation base")
        return self


Bounds = tuple[float, float]


class RandomRanges(BaseModel):
    """Ranges of `--hparams random`; by default those of the model-soups paper."""

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
    """RandAugment operations, uniform, both ends included; 0: no RandAugment."""
    mix_range: Bounds = (0.0, 0.9)
    """Mixup, uniform, for half of the models; the other half has none."""
    smoothing_range: Bounds = (0.0, 0.25)
    """Label smoothing, uniform, for half of the models; the other half has none."""

    @model_validator(mode="after")
    def _check_ranges(self) -> "RandomRanges":
        for name, (low, high) in self:
            if not low <= high:
                raise ValueError(f"{name}: the lower end must come first, found {low} {high}")
        for name in ("lr_range", "wd_range"):
            if getattr(self, name)[0] <= 0:
                raise ValueError(f"{name}: a log-uniform range must be above zero")
        return self
