"""The card of a checkpoint: its architecture, classes, preprocessing, training and recipe, as pydantic models."""

import json
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from soups.core.errors import DataError
from soups.core.labels import Factor, LabelSpace
from soups.core.preprocessing import Preprocessing
from soups.files.atomic import compact_json
from soups.weights.safetensors_header import read_header

FORMAT_VERSION = 1


class _CardModel(BaseModel):
    # Numbers that are not finite stay as they are, so that writing them fails; `null` would make the card unreadable.
    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="constants")


class Architecture(_CardModel):
    """The network of the weights: sufficient to build it again without any other file."""

    family: str
    """A key of the models' `BUILDERS`: `open_clip`, `timm` or `baseline`."""
    name: str
    """The library's exact name of the network, or `custom` for a configuration that the library lacks."""
    quick_gelu: bool = False
    """Whether the activation is OpenAI's approximation of GELU."""
    config: dict[str, Any] | None = None
    """The library's configuration; None if the name determines it."""
    arguments: dict[str, Any] = Field(default_factory=dict, exclude_if=lambda arguments: not arguments)
    """Arguments of the network's constructor that differ from the published ones (`--model-args`, `--image-size`)."""


class IngredientCard(_CardModel):
    """One ingredient of a soup."""

    name: str
    sha256: str
    coefficient: float


class SoupCard(_CardModel):
    """How a soup was made: sufficient to make it again from its ingredients' files."""

    recipe: str
    ingredients: tuple[IngredientCard, ...]
    """In canonical order, by hash."""
    options: dict[str, Any] = Field(default_factory=dict)
    """The recipe's settings, including those that it chose itself."""
    request: dict[str, Any] = Field(default_factory=dict)
    """The options given by the user, the metric, and a fingerprint of the pool."""
    summary: str = ""
    """One sentence on the ingredients chosen; for a single model it gives the reason."""
    integers: str = ""
    """The origin of tensors that cannot be averaged; empty if the model has none."""


class Card(_CardModel):
    """The metadata of a checkpoint. It has no time, host, path or duration: equal work gives equal bytes."""

    format: int = FORMAT_VERSION
    kind: Literal["start", "fine-tune", "soup"]
    architecture: Architecture
    classes: tuple[str, ...]
    """Class names in the order of the logits."""
    factors: tuple[tuple[str, tuple[str, ...]], ...] = Field(default=(), exclude_if=lambda factors: not factors)
    """Name and levels of each factor of the class names, in their order; empty for labels without factors."""
    preprocessing: Preprocessing
    training: dict[str, Any] = Field(default_factory=dict)
    """Settings and seed of the fine-tune with the precision and threads of the training; a soup has the precision and
    threads of its ingredients alone."""
    data: str = ""
    """Fingerprint of the samples table (images, labels, groups)."""
    split: str = ""
    """Fingerprint of the assignment of images to splits."""
    start: str = ""
    """SHA-256 of the start's weights file, shared by all models of a pool."""
    scores: dict[str, dict[str, float]] = Field(default_factory=dict)
    """Set name → metric name → value."""
    soup: SoupCard | None = None

    @property
    def space(self) -> LabelSpace:
        """Return the classes with their factors.

        Raises:
            DataError: the classes are not the products of the factors.
        """
        return LabelSpace(self.classes, tuple(Factor(name, levels) for name, levels in self.factors))


def card_text(card: Card) -> str:
    """Return the card's JSON, as the file stores it."""
    return compact_json(card.model_dump(mode="json"))


def read_card(path: Path) -> Card | None:
    """Return the card of a safetensors file without loading torch or the weights; None if the file has no card.

    Raises:
        DataError: the file is missing or truncated, or its card is invalid.
    """
    text = read_header(path)[0].get("card")
    return None if text is None else parse_card(text, path)


def parse_card(text: str, path: Path) -> Card:
    """Parse the JSON of a card.

    Args:
        text: the result of `card_text`.
        path: the file of the card, for messages.

    Raises:
        DataError: the card is invalid, or of another format version.
    """
    try:
        content = json.loads(text)
        compact_json(content)  # Raises if a number is not finite.
        version = content.get("format")
        if version != FORMAT_VERSION:
            raise DataError(
                f"{path}: a card of another version",
                expected=f"format {FORMAT_VERSION}",
                found=f"format {version}",
                next_step="use the version of soups that wrote it",
            )
        return Card.model_validate_json(text)
    except (ValueError, TypeError, AttributeError, RecursionError, ValidationError) as error:
        raise DataError(f"{path}: its card is damaged", found=str(error).splitlines()[0]) from error
