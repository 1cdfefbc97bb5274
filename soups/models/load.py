"""Classifiers from checkpoints: built as the card says, filled, and checked against what the caller expects."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from soups.checkpoints import checkpoint as checkpoints
from soups.checkpoints.card import Architecture, Card, read_card
from soups.core.errors import DataError
from soups.core.preprocessing import Preprocessing
from soups.files.atomic import sha256_of
from soups.files.file_hashes import check_hash
from soups.models import model_args
from soups.models.build import build_with_weights
from soups.models.foreign.files import read_foreign
from soups.models.foreign.state_dict import expected_tensors, translate_state

if TYPE_CHECKING:
    import torch

    from soups.models.classifier import Classifier

_SHOWN_CLASSES = 10


def load_classifier(
    path: Path,
    *,
    sha256: str | None = None,
    architecture: Architecture | None = None,
    classes: Sequence[str] | None = None,
    preprocessing: Preprocessing | None = None,
) -> "tuple[Classifier, Card]":
    """A checkpoint's classifier, float32, on the CPU, in evaluation mode, and its card.

    Args:
        path: our safetensors file with its card, or a checkpoint of another tool (`foreign`), which has none.
        sha256: what the file must hash to, where that is known.
        architecture: what the card must say; for a file without a card, what the network is.
        classes: the same, for the class names and their order; without card, `0` … `C-1` by default.
        preprocessing: for a file without card, how images become its input.

    Raises:
        DataError: a damaged or changed file, or one of another architecture, class list or shape.
    """
    card = read_card(path) if path.suffix == checkpoints.SUFFIX else None
    if card is not None:
        _check(path, card, architecture, classes)
        state = checkpoints.read_state(path, sha256)
        _check_head(path, state, card.classes)
        return build_with_weights(card.architecture, card.classes, state, str(path)), card
    if architecture is None or preprocessing is None:
        raise DataError(
            f"{path}: has no card that says its architecture",
            next_step="give --model, such as ViT-B/32, or, to start from these weights, --pretrained FILE",
        )
    if sha256 is not None and path.is_file():
        check_hash(path, sha256, sha256_of(path))
    state = translate_state(read_foreign(path), expected_tensors(architecture), str(path), classes=classes).state
    names = tuple(classes) if classes is not None else tuple(map(str, range(len(state["head.weight"]))))
    card = Card(kind="fine-tune", architecture=architecture, classes=names, preprocessing=preprocessing)
    return build_with_weights(architecture, names, state, str(path)), card


def _check(path: Path, card: Card, architecture: Architecture | None, classes: Sequence[str] | None) -> None:
    if architecture is not None and card.architecture != architecture:
        raise DataError(
            f"{path}: a checkpoint of another architecture",
            expected=_described(architecture),
            found=_described(card.architecture),
            next_step="give the checkpoint of this run's model, or the --model that it was trained with",
        )
    if classes is not None and card.classes != tuple(classes):
        same = sorted(card.classes) == sorted(classes)
        raise DataError(
            f"{path}: a checkpoint of {'the same classes in another order' if same else 'another class list'}",
            expected=_listed(classes),
            found=_listed(card.classes),
            next_step="give a checkpoint trained on these classes",
        )


def _described(architecture: Architecture) -> str:
    words = [architecture.family, architecture.name]
    if architecture.quick_gelu and "quickgelu" not in architecture.name:
        words.append("with quick-GELU")
    if architecture.config is not None:
        words.append(checkpoints.compact_json(architecture.config))
    words += model_args.format_model_args(architecture.arguments)
    return " ".join(words)


def _listed(classes: Sequence[str]) -> str:
    shown = ", ".join(list(classes)[:_SHOWN_CLASSES])
    return f"{len(classes)} classes: {shown}" + (", …" if len(classes) > _SHOWN_CLASSES else "")


def _check_head(path: Path, state: "dict[str, torch.Tensor]", classes: Sequence[str]) -> None:
    weight = state.get("head.weight")
    if weight is not None and (weight.ndim != 2 or weight.shape[0] != len(classes)):
        raise DataError(
            f"{path}: its head does not fit its class list",
            expected=_listed(classes),
            found=f"a head of shape {tuple(weight.shape)}",
        )
