"""The start model of a pool: a classifier before fine-tuning, with the fields of its card."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from soups.checkpoints.card import Architecture
from soups.core.preprocessing import Preprocessing

if TYPE_CHECKING:
    from soups.models.classifier import Classifier


@dataclass(frozen=True)
class Start:
    """A classifier before fine-tuning, with the architecture and preprocessing for its card."""

    classifier: "Classifier"
    """On the CPU, float32, in evaluation mode."""
    architecture: Architecture
    preprocessing: Preprocessing
