"""Cards: their text, their form in a file's header, and damaged ones."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from soups.checkpoints.card import Card, card_text, parse_card, read_card
from soups.core.errors import DataError
from soups.weights.safetensors_header import header_bytes

CARD = Card.model_validate(
    {
        "kind": "fine-tune",
        "architecture": {"family": "timm", "name": "toy"},
        "classes": ("red/small", "red/large", "blue/small", "blue/large"),
        "factors": (("colour", ("red", "blue")), ("size", ("small", "large"))),
        "preprocessing": {"size": 4, "mean": (0.1, 0.2, 0.3), "std": (0.4, 0.5, 0.6)},
        "scores": {"val": {"accuracy": 0.1 + 0.2}},
    }
)


def file_with_card(path: Path, text: str) -> Path:
    path.write_bytes(header_bytes({}, {"card": text}))
    return path


def test_a_card_is_read_as_written_and_its_text_has_sorted_keys(tmp_path: Path) -> None:
    text = card_text(CARD)
    assert parse_card(text, tmp_path) == CARD == read_card(file_with_card(tmp_path / "a.safetensors", text))
    assert list(json.loads(text)) == sorted(json.loads(text))


def test_a_file_without_card_gives_none(tmp_path: Path) -> None:
    (tmp_path / "a.safetensors").write_bytes(header_bytes({}, {}))
    assert read_card(tmp_path / "a.safetensors") is None


def test_fields_with_their_defaults_are_omitted_so_that_older_cards_keep_their_bytes() -> None:
    plain = json.loads(card_text(CARD.model_copy(update={"factors": ()})))
    assert "factors" not in plain and "arguments" not in plain["architecture"] and "cut" not in plain["preprocessing"]


def test_the_label_space_has_the_factors() -> None:
    assert CARD.space.names == CARD.classes and CARD.space.factor_names == ("colour", "size")
    assert CARD.space.part(["size"]).names == ("small", "large")
    with pytest.raises(DataError, match="not the products of the factors"):
        _ = CARD.model_copy(update={"classes": ("red/small", "blue/large")}).space


def test_a_score_that_is_not_finite_cannot_be_written() -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        card_text(CARD.model_copy(update={"scores": {"val": {"log_loss": float("nan")}}}))


@pytest.mark.parametrize(
    "change",
    [
        lambda card: card | {"training": {"lr": float("nan")}},
        lambda card: card | {"scores": {"val": {"accuracy": float("inf")}}},
        lambda card: card | {"surprise": 1},
        lambda card: card | {"classes": "zero"},
        lambda card: card | {"preprocessing": {}},
        lambda card: card | {"preprocessing": card["preprocessing"] | {"std": [0, 1, 1]}},
        lambda card: card | {"preprocessing": card["preprocessing"] | {"size": 10**9}},
        lambda card: card | {"kind": "broth"},
        lambda card: card | {"soup": {"receipt": "uniform", "ingredients": []}},
        lambda card: [card],
        lambda card: "{",
        lambda card: "[" * 100_000,
    ],
)
def test_a_damaged_card_is_rejected(tmp_path: Path, change: Callable[[Any], Any]) -> None:
    changed = change(json.loads(card_text(CARD)))
    text = changed if isinstance(changed, str) else json.dumps(changed)
    with pytest.raises(DataError, match="its card is damaged"):
        read_card(file_with_card(tmp_path / "a.safetensors", text))


def test_a_card_of_another_version_is_rejected(tmp_path: Path) -> None:
    text = json.dumps(json.loads(card_text(CARD)) | {"format": 99})
    with pytest.raises(DataError, match="expected: format 1\n  found:    format 99"):
        read_card(file_with_card(tmp_path / "a.safetensors", text))
