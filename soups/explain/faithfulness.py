"""How faithful a map is: what the probability does while the pixels it calls important go, or come."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from soups.explain.methods import frozen_evaluation, upsample_maps
from soups.runtime.devices import derived_seed

if TYPE_CHECKING:
    from soups.models.classifier import Classifier

_BLUR = 8
"""The blurred image has a deviation of a so-manyth of its side."""


@dataclass(frozen=True)
class Curves:
    """Probability of the class for N images over K + 1 shares of the pixels: 0, 1/K, …, 1."""

    deletion: np.ndarray
    """(N, K + 1) float64 in [0, 1], the map's most important pixels taken away first."""
    insertion: np.ndarray
    """(N, K + 1) float64 in [0, 1], the map's most important pixels put in first."""
    random_deletion: np.ndarray
    """(N, R, K + 1) float64, by R random maps."""
    random_insertion: np.ndarray
    """(N, R, K + 1) float64, by the same."""


def area_under_curve(curve: np.ndarray) -> np.ndarray:
    """Area under curves (…, K + 1) over [0, 1], by trapezoids."""
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
    """Deletion and insertion (Petsiuk, Das and Saenko 2018, "RISE", section 4.2), also by random maps.

    Deletion begins with the image and ends with its mean colour as the card has it (0 in the input); insertion begins
    with the blurred image, deviation S/8 pixels, stronger than the paper's (5 of 224), so that little of the evidence
    is left. The random maps are noise at the map's own coarseness, enlarged alike: what is measured is where the map
    points, not how smooth it is. Computed in float32.

    Args:
        classifier: on the device of the inputs; left as it was.
        inputs: (N, 3, S, S) float32, normalised.
        classes: (N,) int64, whose probabilities are followed.
        maps: (N, h, w) float32 on the CPU, as `coarse_maps` gives them.
        steps: K, how many times pixels are taken or put.
        randoms: R, how many random maps each image is also asked with.
        seed: of the random maps of the first image; the second has the next.
    """
    side = inputs.shape[-1]
    parts: list[list[np.ndarray]] = []
    with frozen_evaluation(classifier), torch.inference_mode():
        for row in range(len(inputs)):
            rng = np.random.default_rng(derived_seed(seed + row))
            noise = rng.random((randoms, *maps.shape[1:]), dtype=np.float32)
            orders = upsample_maps(torch.cat([maps[row : row + 1], torch.from_numpy(noise)]), side)
            parts.append([_both(classifier, inputs[row], int(classes[row]), order, steps) for order in orders])
    both = np.array(parts)  # (N, 1 + R, 2, K + 1)
    return Curves(both[:, 0, 0], both[:, 0, 1], both[:, 1:, 0], both[:, 1:, 1])


def _both(classifier: "Classifier", image: torch.Tensor, label: int, order: np.ndarray, steps: int) -> np.ndarray:
    """The two curves of one image and one map: (2, K + 1)."""
    side = image.shape[-1]
    ranks = np.empty(side**2, dtype=np.int64)
    ranks[np.argsort(-order.ravel(), kind="stable")] = np.arange(side**2)
    counts = np.round(np.linspace(0, side**2, steps + 1)).astype(np.int64)
    touched = torch.from_numpy((ranks[None] < counts[:, None]).reshape(-1, 1, side, side)).to(image.device)
    deleted = torch.where(touched, torch.zeros_like(image), image)
    inserted = torch.where(touched, image, blur(image))
    chances = [classifier(inputs).float().softmax(dim=1)[:, label] for inputs in (deleted, inserted)]
    return torch.stack(chances).double().cpu().numpy()


def blur(image: torch.Tensor) -> torch.Tensor:
    """A (3, S, S) image without its details."""
    from torchvision.transforms.v2.functional import gaussian_blur

    deviation = image.shape[-1] / _BLUR
    return gaussian_blur(image, kernel_size=[2 * int(2 * deviation) + 1] * 2, sigma=[deviation] * 2)
