"""Cards: written and parsed without loss; damaged cards and cards of another version are rejected."""

from pathlib import Path

import pytest

from soups.checkpoints.card import FORMAT_VERSION, Architecture, Card, IngredientCard, SoupCard, card_text, parse_card
from soups.core.errors import DataError
from soups.core.preprocessing import Preprocessing

CARD = Card(
    kind="soup",
    architecture=Architecture(family="timm", name="toy"),
    classes=("small/red", "small/blue", "large/red", "large/blue"),
    factors=(("size", ("small", "large")), ("colour", ("red", "blue"))),
    preprocessing=Preprocessing(size=8, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25)),
    scores={"val": {"accuracy": 0.1 + 0.2}},
    soup=SoupCard(recipe="uniform", ingredients=(IngredientCard(name="a", sha256="12", coefficient=1 / 3),)),
)
PATH = Path("model.safetensors")


def test_a_card_is_parsed_as_written() -> None:
    parsed = parse_card(card_text(CARD), PATH)
    assert parsed == CARD and card_text(parsed) == card_text(CARD)
    plain = CARD.model_copy(update={"factors": ()})
    assert "factors" not in card_text(plain) and "arguments" not in card_text(plain)  # As in older cards.


def test_the_classes_have_the_factors_of_the_card() -> None:
    space = CARD.space
    assert space.factor_names == ("size", "colour") and space.part(["colour"]).names == ("red", "blue")


def test_a_number_that_is_not_finite_is_not_written() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        card_text(CARD.model_copy(update={"scores": {"val": {"log_loss": float("inf")}}}))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (card_text(CARD).replace('"kind":"soup"', '"kind":"broth"'), "its card is damaged"),
        (card_text(CARD).replace('"recipe"', '"receipt"'), "its card is damaged"),
        ("[1]", "its card is damaged"),
        ("{", "its card is damaged"),
        (
            card_text(CARD).replace(f'"format":{FORMAT_VERSION}', '"format":99'),
            "another version(?s:.*)format 99",
        ),
    ],
)
def test_invalid_cards_are_rejected(text: str, message: str) -> None:
    assert text != card_text(CARD)
    with pytest.raises(DataError, match=f"model.safetensors: .*{message}"):
        parse_card(text, PATH)
