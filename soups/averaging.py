"""Averages of checkpoint files: the shortest way from models to a soup."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from soups.checkpoints import Card, IngredientCard, SoupCard, read_card, read_state, write_checkpoint
from soups.errors import DataError, UsageError
from soups.hashes import hashes_of
from soups.runtime import cache_dir
from soups.weights import average_mapped

if TYPE_CHECKING:
    import torch


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

    Args:
        paths: checkpoints with cards, of one architecture and one list of classes.
        weights: one for each path, not all zero; equal by default. They are divided by their sum.

    Raises:
        UsageError: no paths, or weights that do not fit them.
        DataError: a file is no checkpoint of ours, is damaged, or does not fit the others; names it.
    """
    files = [Path(path) for path in paths]
    coefficients = [1.0] * len(files) if weights is None else [float(weight) for weight in weights]
    if not files or len(coefficients) != len(files):
        raise UsageError("average", expected="at least one path, and one weight for each", found=f"{len(files)} paths")
    total_weight = sum(coefficients)
    if not total_weight > 0:
        raise UsageError("average", expected="weights with a sum above zero", found=str(coefficients))
    digests = hashes_of([_existing(file) for file in files], cache_dir() / "hashes")
    members = sorted(zip(digests, files, coefficients, strict=True))
    cards = [_card(file) for _, file, _ in members]
    check_cards(cards, [str(file) for _, file, _ in members])
    state = average_mapped([(str(file), read_state(file)) for _, file, _ in members], [member[2] for member in members])
    ingredients = tuple(
        IngredientCard(name=file.stem, sha256=digest, coefficient=coefficient / total_weight)
        for digest, file, coefficient in members
    )
    return AveragedModel(state, soup_card(cards[0], SoupCard(recipe="average", ingredients=ingredients)))


def check_cards(cards: Sequence[Card], names: Sequence[str]) -> None:
    """Raise unless all models have one architecture, one list of classes and one preprocessing.

    Raises:
        DataError: names the first model that differs from the first, and in what.
    """
    for card, name in zip(cards[1:], names[1:], strict=True):
        for field in ("architecture", "classes", "preprocessing"):
            expected, found = getattr(cards[0], field), getattr(card, field)
            if expected != found:
                raise DataError(
                    f"{name}: another {field} than {names[0]}",
                    expected=str(expected),
                    found=str(found),
                    next_step="average only fine-tunes of one start",
                )


def soup_card(ingredient: Card, soup: SoupCard) -> Card:
    """The card of a soup, from that of any of its ingredients; it keeps what it is to be run with."""
    kept = {key: value for key, value in ingredient.training.items() if key in ("precision", "threads")}
    return ingredient.model_copy(update={"kind": "soup", "soup": soup, "training": kept, "scores": {}})


def _existing(file: Path) -> Path:
    if not file.is_file():
        raise DataError(f"{file}: no such file", expected="a checkpoint")
    return file


def _card(file: Path) -> Card:
    card = read_card(file)
    if card is None:
        raise DataError(f"{file}: a checkpoint without a card", expected="a model that soups made")
    return card
