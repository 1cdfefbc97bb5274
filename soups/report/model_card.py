"""The README.md of a model's folder: classes, preprocessing, scores, ingredients and training of the model."""

import json
from collections.abc import Mapping, Sequence

from soups.checkpoints.card import Card
from soups.core.metrics import METRICS
from soups.report.tables import MISSING, markdown_table


def model_card(
    name: str,
    card: Card,
    sha256: str,
    *,
    library: str,
    usage: str,
    scores: Mapping[str, Mapping[str, float]],
    images: Mapping[str, int],
) -> str:
    """Return the README.md: Markdown with the hub's front matter; the licence is left to the user.

    Args:
        name: of the model.
        card: of its checkpoint.
        sha256: of the checkpoint's bytes.
        library: that loads the folder, by its name on the hub.
        usage: Python code that loads it.
        scores: set → metric → value.
        images: set → number of images, if known.
    """
    parts = [
        _front_matter(card, library),
        f"# {name}",
        _introduction(card, sha256),
        f"## How to load\n\nWith {library} alone (FOLDER is this folder, IMAGE an image):\n\n```python\n{usage}```\n\n"
        'With the toolkit that made it: `soups.load("FOLDER").predict_proba("IMAGE")`. It reads `soups_card.json`.',
        "## Classes\n\n" + markdown_table([("logit", "class"), *_numbered_classes(card.classes)]) + _factors(card),
        f"## Preprocessing\n\n{_preprocessing(card)}",
        f"## Scores\n\n{_scores(scores, images)}",
        _ingredients(card),
        f"## Training\n\n{_training(card)}",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _front_matter(card: Card, library: str) -> str:
    tags = ["image-classification", *(["model-soup"] if card.soup is not None else [])]
    return "\n".join(
        [
            "---",
            "# State the licence of these weights here; the licence of the pretrained weights may restrict it.",
            "# license: ",
            f"library_name: {library}",
            "pipeline_tag: image-classification",
            "tags:",
            *(f"- {tag}" for tag in tags),
            "---",
        ]
    )


def _introduction(card: Card, sha256: str) -> str:
    network = card.architecture.name + (" (quick-GELU)" if card.architecture.quick_gelu else "")
    kinds = {"start": "A start, not fine-tuned,", "fine-tune": "A fine-tune", "soup": "A soup of fine-tunes"}
    made = f"{kinds[card.kind]} of {network} for {len(card.classes)} classes."
    return f"{made} SHA-256 of the checkpoint that this folder was written from: `{sha256}`."


def _numbered_classes(classes: Sequence[str]) -> list[tuple[str, str]]:
    return [(str(index), name) for index, name in enumerate(classes)]


def _factors(card: Card) -> str:
    lines = [f"- {name}: {', '.join(levels)}" for name, levels in card.factors]
    return "\n\nA class is one level of each of:\n\n" + "\n".join(lines) if lines else ""


def _preprocessing(card: Card) -> str:
    given = card.preprocessing
    side = "both sides are" if given.resize == "squash" else "the shorter side is"
    steps = [
        f"{side} resized to {given.resized} pixels ({given.interpolation}, antialiased)",
        f"a centred square of {given.size} × {given.size} pixels is cut out",
        f"red, green and blue in [0, 1] are normalised with mean {list(given.mean)}, deviation {list(given.std)}",
    ]
    if given.cut is not None:
        middle = f"the middle {given.cut[0]} × {given.cut[1]} pixels (height × width) are cut out"
        steps.insert(0, f"**{middle}: do this yourself, since the library's own transform does not**")
    return "\n".join(f"{number}. {step}" for number, step in enumerate(steps, start=1))


def _scores(scores: Mapping[str, Mapping[str, float]], images: Mapping[str, int]) -> str:
    if not scores:
        return "Not scored."
    names = list(dict.fromkeys(metric for values in scores.values() for metric in values))
    rows = [
        (of, str(images.get(of, MISSING)), *(_format_score(name, values.get(name)) for name in names))
        for of, values in scores.items()
    ]
    table = markdown_table([("set", "images", *names), *rows])
    return f"{table}\n\nThe score on `val` is too high for models that were selected by it."


def _format_score(metric: str, value: float | None) -> str:
    if value is None:
        return MISSING
    percent = metric in METRICS and METRICS[metric].higher_is_better
    return f"{100 * value:.1f}%" if percent else f"{value:.4f}"


def _ingredients(card: Card) -> str:
    soup = card.soup
    if soup is None:
        return ""
    options = ", ".join(f"{name} = {json.dumps(value)}" for name, value in sorted(soup.options.items()))
    rows = [(part.name, f"`{part.sha256}`", f"{part.coefficient:.6g}") for part in soup.ingredients]
    notes = [text for text in (soup.summary, soup.integers) if text]
    table = markdown_table([("ingredient", "SHA-256", "coefficient"), *rows])
    lines = [f"Recipe: `{soup.recipe}`" + (f" ({options})" if options else "") + ".", *notes]
    return "## Ingredients\n\n" + "\n".join(lines) + f"\n\n{table}"


def _training(card: Card) -> str:
    lines = [f"- {name}: `{json.dumps(value)}`" for name, value in sorted(card.training.items())]
    lines += [f"- {name}: `{value}`" for name, value in (("data", card.data), ("split", card.split)) if value]
    lines += [f"- start: SHA-256 `{card.start}`"] if card.start else []
    return "\n".join(lines) or "The training settings are not known."
