"""`soups.average`: the weighted mean of checkpoint files, and the checks that their cards fit each other."""

import logging
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from soups.checkpoints.card import Card, IngredientCard, SoupCard, read_card
from soups.checkpoints.checkpoint import read_layout, read_state, write_checkpoint
from soups.checkpoints.compatibility import (
    check_duplicates,
    check_layouts,
    find_outliers,
    other_outliers_text,
    strip_prefix,
)
from soups.core.errors import DataError, UsageError
from soups.files.atomic import compact_json
from soups.files.file_hashes import hash_files
from soups.runtime.devices import cache_dir
from soups.weights.safetensors_header import layout_of
from soups.weights.state_dict import average_states, integer_rule

if TYPE_CHECKING:
    import torch

logger = logging.getLogger(__name__)

_MAX_VALUE_LENGTH = 200
"""Characters of a card's value in a message."""


@dataclass(frozen=True)
class AveragedModel:
    """The weighted mean of checkpoints and its card."""

    state: "dict[str, torch.Tensor]"
    card: Card

    def save(self, path: str | Path) -> str:
        """Write the model as a checkpoint, atomically; return the file's SHA-256."""
        return write_checkpoint(Path(path), self.state, self.card)


def average(paths: Sequence[str | Path], weights: Sequence[float] | None = None) -> AveragedModel:
    """Return the weighted mean of fine-tunes of one start, summed in float64 in the order of their hashes.

    Running statistics of BatchNorm are averaged like weights, with a warning: they can make the result collapse, and
    recomputing them needs images (`main.py --batchnorm recompute`).

    Args:
        paths: checkpoints with cards, of one architecture and one list of classes.
        weights: one number for each path with a sum above zero, which divides them; equal by default.

    Raises:
        UsageError: there are no paths, or the weights do not fit them.
        DataError: a file has no card, is damaged, holds NaN or infinity, is given twice, or does not fit the others;
            the message names it.
    """
    files = [Path(path) for path in paths]
    coefficients = [1.0] * len(files) if weights is None else [float(weight) for weight in weights]
    if not files or len(coefficients) != len(files):
        raise UsageError("average", expected="at least one path, and one weight for each", found=f"{len(files)} paths")
    total_weight = sum(coefficients)
    if not total_weight > 0:
        raise UsageError("average", expected="weights with a sum above zero", found=str(coefficients))
    card = _check_files(files)
    with ThreadPoolExecutor(1) as pool:  # Importing torch takes a second on one core; hashing uses the others.
        hashing = pool.submit(hash_files, files, cache_dir() / "hashes")
        import_module("torch")
    digests = hashing.result()
    check_duplicates({str(file): digest for file, digest in zip(files, digests, strict=True)})
    members = sorted(zip(digests, files, coefficients, strict=True))
    states = [(str(file), _read_without_prefix(file)) for _, file, _ in members]
    shares = [coefficient / total_weight for _, _, coefficient in members]
    state = average_states(states, sum_coefficients(shares), mapped=True)
    ingredients = tuple(
        IngredientCard(name=file.stem, sha256=digest, coefficient=share)
        for (digest, file, _), share in zip(members, shares, strict=True)
    )
    if any(key.endswith("running_mean") for key in state):
        logger.warning("the models' BatchNorm statistics are averaged: the result can be much worse than its parts")
    soup = SoupCard(recipe="average", ingredients=ingredients, integers=integer_rule(layout_of(state)))
    return AveragedModel(state, make_soup_card(card, soup))


def sum_coefficients(shares: Sequence[float]) -> list[float]:
    """Return the weights for `average_states` from the coefficients of a card.

    Equal coefficients become 1, so that the bits are those of the plain mean.
    """
    return [1.0] * len(shares) if len(set(shares)) == 1 else list(shares)


def _check_files(files: Sequence[Path]) -> Card:
    """Check from their headers that the files can be averaged; return the first card."""
    cards: dict[str, Card] = {}
    for file in files:
        if str(file) in cards:
            raise DataError(f"{file}: given twice", expected="each model once", next_step="give it more weight instead")
        card = read_card(file)
        if card is None:
            raise DataError(f"{file}: a checkpoint without a card", expected="a model that soups made")
        cards[str(file)] = card
    check_cards(cards)
    check_layouts({name: strip_prefix(read_layout(Path(name)))[0] for name in cards})
    return next(iter(cards.values()))


def _read_without_prefix(file: Path) -> "dict[str, torch.Tensor]":
    state, prefix = strip_prefix(read_state(file))
    if prefix:
        logger.info("%s: the prefix %r of all its tensors' names is removed", file, prefix)
    return state


def check_cards(cards: Mapping[str, Card]) -> None:
    """Raise unless all models have one architecture, one list of classes and one preprocessing.

    Args:
        cards: name of a model → its card.

    Raises:
        DataError: the message names the first model that differs from most (from the first, in a tie), the field, and
            the number of other models that differ.
    """
    reference, differences = _find_card_differences(cards)
    for name, (what, expected, found) in differences.items():
        raise DataError(
            f"{name}: another {what} than {reference}{other_outliers_text(len(differences) - 1)}",
            expected=expected,
            found=found,
            next_step="leave it out: only fine-tunes of one start can be averaged",
        )


def find_card_mismatches(cards: Mapping[str, Card]) -> dict[str, str]:
    """Return the models whose cards differ from those of most, in the order given: name → the reason."""
    reference, differences = _find_card_differences(cards)
    return {
        name: f"it has another {what} than {reference}: expected {expected}, found {found}"
        for name, (what, expected, found) in differences.items()
    }


_COMPARED_FIELDS = {"architecture": "architecture", "classes": "list of classes", "preprocessing": "preprocessing"}
"""Field of a card → its name in messages."""


def _find_card_differences(cards: Mapping[str, Card]) -> tuple[str, dict[str, tuple[str, str, str]]]:
    """Return the reference model, and for each model with another card the field, the expected and the found value."""
    if not cards:
        return "", {}
    dumped = {name: card.model_dump(mode="json", include=set(_COMPARED_FIELDS)) for name, card in cards.items()}
    reference, outliers = find_outliers({name: compact_json(fields) for name, fields in dumped.items()})
    differences = {}
    for name in outliers:
        card, usual = cards[name], cards[reference]
        field = next(each for each in _COMPARED_FIELDS if getattr(card, each) != getattr(usual, each))
        expected, found = getattr(usual, field), getattr(card, field)
        differences[name] = (_COMPARED_FIELDS[field], _format_value(expected, found), _format_value(found, expected))
    return reference, differences


def _format_value(value: Any, other: Any) -> str:
    """Format classes as their number and names; format settings as those that differ from `other`."""
    if isinstance(value, tuple):
        text = f"{len(value)} classes: {', '.join(value)}"
    else:
        text = ", ".join(f"{key} {item}" for key, item in value if item != getattr(other, key))
    return text if len(text) <= _MAX_VALUE_LENGTH else f"{text[:_MAX_VALUE_LENGTH]} …"


def make_soup_card(ingredient: Card, soup: SoupCard) -> Card:
    """Return the card of a soup from that of any ingredient; of its training, precision and threads remain."""
    training = {key: value for key, value in ingredient.training.items() if key in ("precision", "threads")}
    return ingredient.model_copy(update={"kind": "soup", "soup": soup, "training": training, "scores": {}})
