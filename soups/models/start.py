"""What fine-tuning begins with."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from soups.checkpoints.card import Architecture
from soups.core.preprocessing import Preprocessing

if TYPE_CHECKING:
    from soups.models.classifier import Classifier


@dataclass(frozen=True)
class Start:
    """A classifier before any fine-tuning, and what its checkpoint's card says of it."""

    classifier: "Classifier"
    """On the CPU, float32, in evaluation mode."""
    architecture: Architecture
    preprocessing: Preprocessing
