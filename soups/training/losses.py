"""Losses of a fine-tune: one function each, from logits and labels to the mean over the batch."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from soups.core.errors import UsageError
from soups.training.settings import TrainingSettings

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

CONTRASTIVE_MARGIN = 1.0
"""Distance beyond which pairs of one class cost, and below which pairs of different classes cost."""


@dataclass(frozen=True)
class LossOptions:
    """Options of the losses; each loss uses those it supports."""

    smoothing: float = 0.0
    """Share of the target that is spread evenly over all classes (Szegedy et al., arXiv:1512.00567)."""
    gamma: float = 2.0
    """Focusing parameter of the focal loss."""
    contrastive_weight: float = 1.0
    """Weight of the contrastive term beside cross-entropy."""
    class_weights: "Tensor | None" = None
    """(C,) float: weight of an image of each class."""


def loss_options(settings: TrainingSettings, class_weights: "np.ndarray | None", device: str) -> LossOptions:
    """Returns the loss options of a fine-tune.

    Args:
        settings: settings of the fine-tune.
        class_weights: (C,), or None for equal weights.
        device: device of the logits.
    """
    import torch

    weights = None if class_weights is None else torch.as_tensor(class_weights, dtype=torch.float32, device=device)
    return LossOptions(settings.smoothing, settings.focal_gamma, settings.contrastive_weight, weights)


Loss = Callable[["Tensor", "Tensor", "Tensor", LossOptions], "Tensor"]
"""`loss(logits (B, C) float32, labels (B,) int64, features (B, D) float32, options) -> ()`, the mean over the batch."""


def cross_entropy(logits: "Tensor", labels: "Tensor", features: "Tensor", options: LossOptions) -> "Tensor":
    """Returns the negative log-likelihood of the true class as in torch; with class weights, the weighted mean."""
    from torch.nn.functional import cross_entropy

    return cross_entropy(logits, labels, weight=options.class_weights, label_smoothing=options.smoothing)


def focal(logits: "Tensor", labels: "Tensor", features: "Tensor", options: LossOptions) -> "Tensor":
    """Returns the focal loss: Lin et al. 2017, arXiv:1708.02002, equation 5.

    The loss of an image is -(1 - p)^gamma log p, where p is the probability of its true class; gamma 0 is
    cross-entropy. For smoothed targets it is the sum over the classes, each weighted by its share of the target.
    With class weights (the paper's alpha) the mean is weighted.
    """
    log_probabilities = logits.log_softmax(dim=1)
    damping = (1 - log_probabilities.exp()) ** options.gamma
    per_image = -(_targets(logits, labels, options) * damping * log_probabilities)
    if options.class_weights is None:
        return per_image.sum(dim=1).mean()
    return (per_image * options.class_weights).sum() / options.class_weights[labels].sum()


def soft_f1(logits: "Tensor", labels: "Tensor", features: "Tensor", options: LossOptions) -> "Tensor":
    """Returns one minus the macro-F1 of the batch, computed from probabilities in place of counts.

    F1 of a class is 2 TP / (2 TP + FP + FN). TP is the sum of the class's probability over its images, FP is the
    probability that other images give to the class, FN is the probability that its own images lack. The mean is
    over the classes in the batch: a class that is not in it has F1 0 whatever is predicted, and no gradient.

    Raises:
        UsageError: class weights are given; macro-F1 already weights all classes equally.
    """
    if options.class_weights is not None:
        raise UsageError("F1Loss takes no --class-weights: macro-F1 already weights all classes equally")
    probabilities, targets = logits.softmax(dim=1), _targets(logits, labels, options)
    true_positives = (probabilities * targets).sum(dim=0)
    scores = 2 * true_positives / (probabilities + targets).sum(dim=0)
    return 1 - scores[labels.unique()].mean()


def contrastive(logits: "Tensor", labels: "Tensor", features: "Tensor", options: LossOptions) -> "Tensor":
    """Returns cross-entropy plus a contrastive loss on features: Hadsell, Chopra and LeCun 2006 (CVPR), equation 4.

    The contrastive term is that of pytorch-metric-learning on features of length 1: the mean of max(0, d - 1) over
    pairs of one class and of max(0, 1 - d) over other pairs (each over the pairs with non-zero loss; distances are
    not squared). The contrastive term alone would not train the head.
    """
    from pytorch_metric_learning.losses import ContrastiveLoss

    contrast = ContrastiveLoss(pos_margin=CONTRASTIVE_MARGIN, neg_margin=CONTRASTIVE_MARGIN)(features, labels)
    return cross_entropy(logits, labels, features, options) + options.contrastive_weight * contrast


def binary_cross_entropy(logits: "Tensor", labels: "Tensor", features: "Tensor", options: LossOptions) -> "Tensor":
    """Returns the binary cross-entropy of each class against one-hot targets: the mean over images and classes."""
    from torch.nn.functional import binary_cross_entropy_with_logits

    targets = _targets(logits, labels, options)
    if options.class_weights is None:
        return binary_cross_entropy_with_logits(logits, targets)
    per_image = binary_cross_entropy_with_logits(logits, targets, reduction="none").mean(dim=1)
    weights = options.class_weights[labels]
    return (weights * per_image).sum() / weights.sum()


def _targets(logits: "Tensor", labels: "Tensor", options: LossOptions) -> "Tensor":
    """Returns (B, C), the share of each class in the target."""
    from torch.nn.functional import one_hot

    classes = logits.shape[1]
    return one_hot(labels, classes).to(logits.dtype) * (1 - options.smoothing) + options.smoothing / classes


LOSSES: dict[str, Loss] = {
    "CrossEntropyLoss": cross_entropy,
    "LabelSmoothingLoss": cross_entropy,
    "FocalLoss": focal,
    "F1Loss": soft_f1,
    "ContrastiveLoss": contrastive,
    "BCEWithLogitsLoss": binary_cross_entropy,
}
