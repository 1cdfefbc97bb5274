"""Loads classifiers from checkpoint files: built from the card, filled, and checked against the expected fields."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from soups.checkpoints.card import Architecture, Card, read_card
from soups.checkpoints.checkpoint import SUFFIX, read_state
from soups.core.errors import DataError
from soups.core.preprocessing import Preprocessing
from soups.files.atomic import compact_json
from soups.models.build import build_with_weights
from soups.models.foreign.files import read_foreign_state
from soups.models.foreign.state_dict import expected_tensors, translate_state
from soups.models.model_args import format_model_args
from soups.models.pretrained import check_head_rows, format_classes

if TYPE_CHECKING:
    from soups.models.classifier import Classifier


def load_classifier(
    path: Path,
    *,
    sha256: str | None = None,
    architecture: Architecture | None = None,
    classes: Sequence[str] | None = None,
    preprocessing: Preprocessing | None = None,
) -> "tuple[Classifier, Card]":
    """Returns a checkpoint's classifier (float32, on the CPU, in evaluation mode) and its card.

    Args:
        path: our safetensors file with its card, or a checkpoint of another tool, which has no card.
        sha256: expected hash of the file; None: not checked.
        architecture: expected architecture of the card; for a file without a card, the network to build.
        classes: expected class names in order; for a file without a card, its classes (by default `0` … `C-1`).
        preprocessing: preprocessing of a file without a card.

    Raises:
        DataError: the file is damaged or changed, or has another architecture, class list or shape.
    """
    card = read_card(path) if path.suffix == SUFFIX else None
    if card is not None:
        _check_card(path, card, architecture, classes)
        state = read_state(path, sha256)
        if "head.weight" in state:
            check_head_rows(state["head.weight"], card.classes, str(path))
        return build_with_weights(card.architecture, card.classes, state, str(path)), card
    if architecture is None or preprocessing is None:
        raise DataError(
            f"{path}: has no card that says its architecture",
            next_step="give --model, such as ViT-B/32, or, to start from these weights, --pretrained FILE",
        )
    expected = expected_tensors(architecture)
    state = translate_state(read_foreign_state(path, sha256=sha256), expected, str(path), classes=classes).state
    names = tuple(classes) if classes is not None else tuple(map(str, range(len(state["head.weight"]))))
    card = Card(kind="fine-tune", architecture=architecture, classes=names, preprocessing=preprocessing)
    return build_with_weights(architecture, names, state, str(path)), card


def _check_card(path: Path, card: Card, architecture: Architecture | None, classes: Sequence[str] | None) -> None:
    """Raise DataError if the architecture or class list is not the expected one."""
    if architecture is not None and card.architecture != architecture:
        raise DataError(
            f"{path}: a checkpoint of another architecture",
            expected=_format_architecture(architecture),
            found=_format_architecture(card.architecture),
            next_step="give the checkpoint of this run's model, or the --model that it was trained with",
        )
    if classes is not None and card.classes != tuple(classes):
        same = sorted(card.classes) == sorted(classes)
        raise DataError(
            f"{path}: a checkpoint of {'the same classes in another order' if same else 'another class list'}",
            expected=format_classes(classes),
            found=format_classes(card.classes),
            next_step="give a checkpoint trained on these classes",
        )


def _format_architecture(architecture: Architecture) -> str:
    words = [architecture.family, architecture.name]
    if architecture.quick_gelu and "quickgelu" not in architecture.name:
        words.append("with quick-GELU")
    if architecture.config is not None:
        words.append(compact_json(architecture.config))
    words += format_model_args(architecture.arguments)
    return " ".join(words)
