"""Averages of checkpoint files: the shortest way from models to a soup."""

import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from soups.checkpoints.checkpoint import (
    Card,
    IngredientCard,
    SoupCard,
    read_card,
    read_layout,
    read_state,
    write_checkpoint,
)
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

_LONGEST = 200


@dataclass(frozen=True)
class AveragedModel:
    """The weighted mean of checkpoints, with the card to save it with."""

    state: "dict[str, torch.Tensor]"
    card: Card

    def save(self, path: str | Path) -> str:
        """Write it as a checkpoint, whole or not at all; its SHA-256."""
        return write_checkpoint(Path(path), self.state, self.card)


def average(paths: Sequence[str | Path], weights: Sequence[float] | None = None) -> AveragedModel:
    """The weighted mean of fine-tunes of one start, summed in float64 in the order of their hashes.

    Running statistics of BatchNorm are averaged like weights, with a notice: they can make the result collapse, and
    computing them anew takes images (`main.py --batchnorm recompute`).

    Args:
        paths: checkpoints with cards, of one architecture and one list of classes.
        weights: one for each path, not all zero; equal by default. They are divided by their sum.

    Raises:
        UsageError: no paths, or weights that do not fit them.
        DataError: a file is no checkpoint of ours, is damaged, holds NaN or infinity, is there twice, or does not fit
            the others; names it.
    """
    files = [Path(path) for path in paths]
    coefficients = [1.0] * len(files) if weights is None else [float(weight) for weight in weights]
    if not files or len(coefficients) != len(files):
        raise UsageError("average", expected="at least one path, and one weight for each", found=f"{len(files)} paths")
    total_weight = sum(coefficients)
    if not total_weight > 0:
        raise UsageError("average", expected="weights with a sum above zero", found=str(coefficients))
    card = _checked(files)
    digests = _hashes(files)
    check_duplicates({str(file): digest for file, digest in zip(files, digests, strict=True)})
    members = sorted(zip(digests, files, coefficients, strict=True))
    states = [(str(file), _without_prefix(file)) for _, file, _ in members]
    shares = [coefficient / total_weight for _, _, coefficient in members]
    state = average_states(states, sum_coefficients(shares), mapped=True)
    ingredients = tuple(
        IngredientCard(name=file.stem, sha256=digest, coefficient=share)
        for (digest, file, _), share in zip(members, shares, strict=True)
    )
    if any(key.endswith("running_mean") for key in state):
        logger.warning("the models' BatchNorm statistics are averaged: the result can be much worse than its parts")
    soup = SoupCard(recipe="average", ingredients=ingredients, integers=integer_rule(layout_of(state)))
    return AveragedModel(state, soup_card(card, soup))


def sum_coefficients(shares: Sequence[float]) -> list[float]:
    """What ingredients are multiplied with before they are summed, given their shares as a card has them: the shares,
    or where all are equal 1, so that the bits are those of the plain mean."""
    return [1.0] * len(shares) if len(set(shares)) == 1 else list(shares)


def _checked(files: Sequence[Path]) -> Card:
    """The first card, once it is certain from their first bytes that the files belong together."""
    for number, file in enumerate(files):
        if file in files[:number]:
            raise DataError(f"{file}: given twice", expected="each model once", next_step="give it more weight instead")
    names, cards = [str(file) for file in files], [_card(file) for file in files]
    check_cards(cards, names)
    check_layouts({name: strip_prefix(read_layout(file))[0] for name, file in zip(names, files, strict=True)})
    return cards[0]


def _hashes(files: Sequence[Path]) -> list[str]:
    """The files' hashes, while torch is loaded: it takes a second and a core, and hashing can use the others."""
    with ThreadPoolExecutor(1) as pool:
        digests = pool.submit(hash_files, files, cache_dir() / "hashes")
        import_module("torch")
        return digests.result()


def _without_prefix(file: Path) -> "dict[str, torch.Tensor]":
    state, prefix = strip_prefix(read_state(file))
    if prefix:
        logger.info("%s: the prefix %r of all its tensors' names is left out", file, prefix)
    return state


def check_cards(cards: Sequence[Card], names: Sequence[str]) -> None:
    """Raise unless all models have one architecture, one list of classes and one preprocessing.

    Raises:
        DataError: names the first model that differs from most (from the first, among equals), in what, and how many
            more do.
    """
    reference, odd = _odd_cards(cards, names)
    for name, (what, expected, found) in odd.items():
        raise DataError(
            f"{name}: another {what} than {reference}{other_outliers_text(len(odd) - 1)}",
            expected=expected,
            found=found,
            next_step="leave it out: only fine-tunes of one start can be averaged",
        )


def find_card_mismatches(cards: Sequence[Card], names: Sequence[str]) -> dict[str, str]:
    """The models whose cards differ from those of most, in the order given: name → what is wrong, in one sentence."""
    reference, odd = _odd_cards(cards, names)
    return {
        name: f"it has another {what} than {reference}: expected {expected}, found {found}"
        for name, (what, expected, found) in odd.items()
    }


_COMPARED = {"architecture": "architecture", "classes": "list of classes", "preprocessing": "preprocessing"}


def _odd_cards(cards: Sequence[Card], names: Sequence[str]) -> tuple[str, dict[str, tuple[str, str, str]]]:
    """The name of a card like most, and for each that is not like it: in what it differs, expected and found."""
    if not cards:
        return "", {}
    known = dict(zip(names, cards, strict=True))
    reference, odd = find_outliers(
        {name: compact_json(card.model_dump(mode="json", include=set(_COMPARED))) for name, card in known.items()}
    )
    told = {}
    for name in odd:
        field = next(each for each in _COMPARED if getattr(known[name], each) != getattr(known[reference], each))
        expected, found = getattr(known[reference], field), getattr(known[name], field)
        told[name] = (_COMPARED[field], _brief(expected, found), _brief(found, expected))
    return reference, told


def _brief(value: Any, other: Any) -> str:
    """Classes by number and name; of settings, those that differ."""
    if isinstance(value, tuple):
        text = f"{len(value)} classes: {', '.join(value)}"
    else:
        text = ", ".join(f"{key} {item}" for key, item in value if item != getattr(other, key))
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]} …"


def soup_card(ingredient: Card, soup: SoupCard) -> Card:
    """The card of a soup, from that of any of its ingredients; it keeps what it is to be run with."""
    kept = {key: value for key, value in ingredient.training.items() if key in ("precision", "threads")}
    return ingredient.model_copy(update={"kind": "soup", "soup": soup, "training": kept, "scores": {}})


def _card(file: Path) -> Card:
    card = read_card(file)
    if card is None:
        raise DataError(f"{file}: a checkpoint without a card", expected="a model that soups made")
    return card
