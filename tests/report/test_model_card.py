"""The README.md of a model's folder."""

from soups.checkpoints.card import Architecture
from soups.checkpoints.checkpoint import Card
from soups.core.preprocessing import Preprocessing
from soups.report.model_card import model_card

CARD = Card(
    kind="fine-tune",
    architecture=Architecture(family="timm", name="toy"),
    classes=("cat", "dog"),
    preprocessing=Preprocessing(size=8, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)),
)


def test_the_sections_of_a_fine_tune() -> None:
    text = model_card(
        "cats",
        CARD,
        "12ab",
        library="timm",
        usage="load('<b>')\n",
        scores={"val": {"accuracy": 0.5}},
        images={"val": 4},
    )
    assert text.startswith("---\n") and "library_name: timm" in text and "`12ab`" in text
    headings = [line for line in text.splitlines() if line.startswith("## ")]
    assert headings == ["## How to load", "## Classes", "## Preprocessing", "## Scores", "## Training"]
    assert "| 0 | cat |" in text and "| val | 4 | 50.0% |" in text and "```python\nload('<b>')\n```" in text


def test_unknown_values() -> None:
    scores = {"val": {"accuracy": 0.5}, "test": {"log_loss": 1.25}}
    text = model_card("cats", CARD, "12ab", library="timm", usage="", scores=scores, images={})
    assert "| val | – | 50.0% | – |" in text and "| test | – | – | 1.2500 |" in text
    assert "Not scored." in model_card("cats", CARD, "12ab", library="timm", usage="", scores={}, images={})
    assert "The training settings are not known." in text
