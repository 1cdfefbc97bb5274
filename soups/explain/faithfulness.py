"""Measures the faithfulness of maps by deletion and insertion of their most important pixels."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from soups.explain.methods import frozen_evaluation, upsample_maps
from soups.runtime.devices import derived_seed

if TYPE_CHECKING:
    from soups.models.classifier import Classifier

_BLUR_DIVISOR = 8
"""The standard deviation of the blur is 1/8 of the image's side."""


@dataclass(frozen=True)
class Curves:
    """Probability of the class for N images at K + 1 fractions of the pixels: 0, 1/K, …, 1."""

    deletion: np.ndarray
    """(N, K + 1) float64 in [0, 1], the map's most important pixels deleted first."""
    insertion: np.ndarray
    """(N, K + 1) float64 in [0, 1], the map's most important pixels inserted first."""
    random_deletion: np.ndarray
    """(N, R, K + 1) float64, deletion by R random maps."""
    random_insertion: np.ndarray
    """(N, R, K + 1) float64, insertion by the same maps."""


def area_under_curve(curve: np.ndarray) -> np.ndarray:
    """Returns the area (…) under curves (…, K + 1) over [0, 1], by the trapezoidal rule."""
    return np.asarray(np.trapezoid(curve, dx=1 / (curve.shape[-1] - 1), axis=-1))


def deletion_and_insertion(
    classifier: "Classifier",
    inputs: torch.Tensor,
    classes: torch.Tensor,
    maps: torch.Tensor,
    *,
    steps: int,
    randoms: int,
    seed: int,
) -> Curves:
    """Returns deletion and insertion curves (Petsiuk, Das and Saenko 2018, "RISE", section 4.2), also of random maps.

    Deletion replaces pixels of the image by the card's mean colour (0 in the input). Insertion begins with the blurred
    image; the standard deviation of S/8 pixels is larger than the paper's (5 of 224), so that little evidence is left.
    Random maps are noise at the map's resolution, upsampled the same way, so that the comparison measures the map's
    location and not its smoothness. Computed in float32.

    Args:
        classifier: on the device of the inputs; its state is restored.
        inputs: (N, 3, S, S) float32, normalised.
        classes: (N,) int64, the classes whose probabilities are measured.
        maps: (N, h, w) float32 on the CPU, from `coarse_maps`.
        steps: K.
        randoms: R, random maps for each image.
        seed: seed of the first image's random maps; the seed increases by one for each image.
    """
    side = inputs.shape[-1]
    curves: list[list[np.ndarray]] = []
    with frozen_evaluation(classifier), torch.inference_mode():
        for row in range(len(inputs)):
            rng = np.random.default_rng(derived_seed(seed + row))
            noise = rng.random((randoms, *maps.shape[1:]), dtype=np.float32)
            large_maps = upsample_maps(torch.cat([maps[row : row + 1], torch.from_numpy(noise)]), side)
            curves.append(
                [_both_curves(classifier, inputs[row], int(classes[row]), large, steps) for large in large_maps]
            )
    both = np.array(curves)  # (N, 1 + R, 2, K + 1)
    return Curves(both[:, 0, 0], both[:, 0, 1], both[:, 1:, 0], both[:, 1:, 1])


def _both_curves(
    classifier: "Classifier", image: torch.Tensor, label: int, importance: np.ndarray, steps: int
) -> np.ndarray:
    """Returns the deletion and insertion curves of one image and one map (S, S): (2, K + 1)."""
    side = image.shape[-1]
    ranks = np.empty(side**2, dtype=np.int64)
    ranks[np.argsort(-importance.ravel(), kind="stable")] = np.arange(side**2)
    counts = np.round(np.linspace(0, side**2, steps + 1)).astype(np.int64)
    changed = torch.from_numpy((ranks[None] < counts[:, None]).reshape(-1, 1, side, side)).to(image.device)
    deleted = torch.where(changed, torch.zeros_like(image), image)
    inserted = torch.where(changed, image, blur(image))
    probabilities = [classifier(inputs).float().softmax(dim=1)[:, label] for inputs in (deleted, inserted)]
    return torch.stack(probabilities).double().cpu().numpy()


def blur(image: torch.Tensor) -> torch.Tensor:
    """Returns a strongly blurred (3, S, S) image."""
    from torchvision.transforms.v2.functional import gaussian_blur

    std = image.shape[-1] / _BLUR_DIVISOR
    return gaussian_blur(image, kernel_size=[2 * int(2 * std) + 1] * 2, sigma=[std] * 2)
