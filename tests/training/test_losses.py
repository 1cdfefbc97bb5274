"""Each loss against its formula written out slowly, on random logits."""

import math

import numpy as np
import pytest
import torch

from soups.core.errors import UsageError
from soups.training.losses import LOSSES, LossOptions

IMAGES, CLASSES, FEATURES = 7, 4, 5
LABELS = [0, 2, 2, 3, 0, 2, 3]  # Class 1 is not in the batch.
WEIGHTS = [1.0, 5.0, 0.5, 2.0]


def a_batch(seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(IMAGES, CLASSES, generator=generator, dtype=torch.float64)
    features = torch.randn(IMAGES, FEATURES, generator=generator, dtype=torch.float64)
    return logits.requires_grad_(), torch.tensor(LABELS), features.requires_grad_()


def softmax(row: list[float]) -> list[float]:
    total = sum(math.exp(value) for value in row)
    return [math.exp(value) / total for value in row]


def targets(smoothing: float) -> list[list[float]]:
    return [[(1 - smoothing) * (index == label) + smoothing / CLASSES for index in range(CLASSES)] for label in LABELS]


def found(name: str, seed: int, smoothing: float, weights: list[float] | None, **more: float) -> float:
    logits, labels, features = a_batch(seed)
    tensor = None if weights is None else torch.tensor(weights, dtype=torch.float64)
    loss = LOSSES[name](logits, labels, features, LossOptions(smoothing=smoothing, class_weights=tensor, **more))
    assert loss.shape == ()
    loss.backward()
    assert logits.grad is not None and torch.isfinite(logits.grad).all() and logits.grad.abs().sum() > 0
    return float(loss.detach())


def cross_entropy(seed: int, smoothing: float, weights: list[float] | None) -> float:
    rows = a_batch(seed)[0].tolist()
    weight = weights or [1.0] * CLASSES
    cost = [
        sum(-weight[c] * target[c] * math.log(softmax(row)[c]) for c in range(CLASSES))
        for row, target in zip(rows, targets(smoothing), strict=True)
    ]
    return sum(cost) / sum(weight[label] for label in LABELS)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weights", [None, WEIGHTS])
@pytest.mark.parametrize("name", ["CrossEntropyLoss", "LabelSmoothingLoss"])
def test_cross_entropy(name: str, seed: int, smoothing: float, weights: list[float] | None) -> None:
    assert found(name, seed, smoothing, weights) == pytest.approx(cross_entropy(seed, smoothing, weights), rel=1e-9)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weights", [None, WEIGHTS])
@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_focal(seed: int, smoothing: float, weights: list[float] | None, gamma: float) -> None:
    weight = weights or [1.0] * CLASSES
    expected = 0.0
    for row, target in zip(a_batch(seed)[0].tolist(), targets(smoothing), strict=True):
        for c, p in enumerate(softmax(row)):
            expected += weight[c] * target[c] * (1 - p) ** gamma * -math.log(p)
    expected /= sum(weight[label] for label in LABELS)
    assert found("FocalLoss", seed, smoothing, weights, gamma=gamma) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_soft_macro_f1(seed: int, smoothing: float) -> None:
    scores = []
    for c in sorted(set(LABELS)):
        hit = missed = false = 0.0
        for row, target in zip(a_batch(seed)[0].tolist(), targets(smoothing), strict=True):
            p = softmax(row)[c]
            hit, missed, false = hit + p * target[c], missed + (1 - p) * target[c], false + p * (1 - target[c])
        scores.append(2 * hit / (2 * hit + missed + false))
    assert found("F1Loss", seed, smoothing, None) == pytest.approx(1 - sum(scores) / 3, rel=1e-9)


def test_soft_f1_of_certain_predictions_is_the_real_one() -> None:
    from sklearn.metrics import f1_score

    predicted = [0, 2, 0, 3, 0, 3, 3]
    logits = 200.0 * torch.nn.functional.one_hot(torch.tensor(predicted), CLASSES).double()
    loss = LOSSES["F1Loss"](logits, torch.tensor(LABELS), logits, LossOptions())
    assert float(loss) == pytest.approx(1 - f1_score(LABELS, predicted, average="macro"), abs=1e-9)
    with pytest.raises(UsageError, match="F1Loss takes no --class-weights"):
        LOSSES["F1Loss"](logits, torch.tensor(LABELS), logits, LossOptions(class_weights=torch.ones(CLASSES)))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("weight", [1.0, 0.3])
def test_the_contrastive_term_is_added_to_cross_entropy(seed: int, weight: float) -> None:
    rows = a_batch(seed)[2].tolist()
    lengths = [math.sqrt(sum(value**2 for value in row)) for row in rows]
    unit = [[value / length for value in row] for row, length in zip(rows, lengths, strict=True)]
    costs: dict[bool, list[float]] = {True: [], False: []}
    for i in range(IMAGES):
        for j in range(IMAGES):
            if i != j:
                distance = math.sqrt(sum((a - b) ** 2 for a, b in zip(unit[i], unit[j], strict=True)))
                same = LABELS[i] == LABELS[j]
                costs[same].append(max(0.0, distance - 1 if same else 1 - distance))
    apart = sum(np.mean([cost for cost in each if cost > 0]) if any(each) else 0.0 for each in costs.values())
    expected = cross_entropy(seed, 0.0, None) + weight * apart
    assert found("ContrastiveLoss", seed, 0.0, None, contrastive_weight=weight) == pytest.approx(expected, rel=1e-6)


def test_contrast_reaches_the_features_and_cross_entropy_the_head() -> None:
    logits, labels, features = a_batch(0)
    LOSSES["ContrastiveLoss"](logits, labels, features, LossOptions()).backward()
    assert features.grad is not None and features.grad.abs().sum() > 0
    assert logits.grad is not None and logits.grad.abs().sum() > 0


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_binary_cross_entropy(seed: int, smoothing: float, weights: list[float] | None) -> None:
    weight = weights or [1.0] * CLASSES
    total = 0.0
    for row, target, label in zip(a_batch(seed)[0].tolist(), targets(smoothing), LABELS, strict=True):
        costs = [
            -t * math.log(1 / (1 + math.exp(-z))) - (1 - t) * math.log(1 - 1 / (1 + math.exp(-z)))
            for z, t in zip(row, target, strict=True)
        ]
        total += weight[label] * sum(costs) / CLASSES
    expected = total / sum(weight[label] for label in LABELS)
    assert found("BCEWithLogitsLoss", seed, smoothing, weights) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.3])
def test_binary_cross_entropy_is_that_of_timm(smoothing: float) -> None:
    from timm.loss import BinaryCrossEntropy

    logits, labels, _ = a_batch(0)
    expected = BinaryCrossEntropy(smoothing=smoothing)(logits.detach(), labels)
    assert found("BCEWithLogitsLoss", 0, smoothing, None) == pytest.approx(float(expected), rel=1e-12)


def test_known_losses() -> None:
    assert list(LOSSES) == [
        *("CrossEntropyLoss", "LabelSmoothingLoss", "FocalLoss", "F1Loss", "ContrastiveLoss", "BCEWithLogitsLoss")
    ]
