"""The page that goes with a model wherever it goes: what it answers, how good it is, and what it is made of."""

import json
from collections.abc import Mapping, Sequence

from soups.checkpoints.card import Card
from soups.core.metrics import METRICS
from soups.report.comparison import markdown_columns


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
    """README.md of a model's folder: Markdown with the hub's front matter; the licence is left to the user.

    Args:
        name: the model's.
        card: of its checkpoint.
        sha256: of its checkpoint's bytes.
        library: that loads the folder, by its name on the hub.
        usage: Python that does so.
        scores: set → metric → value.
        images: set → how many images it has, as far as that is known.
    """
    parts = [
        _front_matter(card, library),
        f"# {name}",
        _opening(card, sha256),
        f"## How to load\n\nWith {library} alone (FOLDER is this folder, IMAGE an image):\n\n```python\n{usage}```\n\n"
        'With the toolkit that made it: `soups.load("FOLDER").predict_proba("IMAGE")`. `soups_card.json` is its.',
        "## Classes\n\n" + markdown_columns([("logit", "class"), *_numbered(card.classes)], []) + _factors(card),
        f"## Preprocessing\n\n{_preprocessing(card)}",
        f"## Scores\n\n{_scores(scores, images)}",
        _made_of(card),
        f"## Training\n\n{_training(card)}",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _front_matter(card: Card, library: str) -> str:
    tags = ["image-classification", *(["model-soup"] if card.soup is not None else [])]
    return "\n".join(
        [
            "---",
            "# Say here under which licence others may use these weights; mind that of the weights they started from.",
            "# license: ",
            f"library_name: {library}",
            "pipeline_tag: image-classification",
            "tags:",
            *(f"- {tag}" for tag in tags),
            "---",
        ]
    )


def _opening(card: Card, sha256: str) -> str:
    network = card.architecture.name + (" (quick-GELU)" if card.architecture.quick_gelu else "")
    kinds = {"start": "A start, not fine-tuned,", "fine-tune": "A fine-tune", "soup": "A soup of fine-tunes"}
    made = f"{kinds[card.kind]} of {network} for {len(card.classes)} classes."
    return f"{made} SHA-256 of the checkpoint that this folder was written from: `{sha256}`."


def _numbered(classes: Sequence[str]) -> list[tuple[str, str]]:
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
        (of, str(images.get(of, "")) or "–", *(_number(name, values.get(name)) for name in names))
        for of, values in scores.items()
    ]
    table = markdown_columns([("set", "images", *names), *rows], [])
    return f"{table}\n\nWhat was chosen by its score on `val` looks too good there."


def _number(metric: str, value: float | None) -> str:
    if value is None:
        return "–"
    percent = metric in METRICS and METRICS[metric].higher_is_better
    return f"{100 * value:.1f}%" if percent else f"{value:.4f}"


def _made_of(card: Card) -> str:
    soup = card.soup
    if soup is None:
        return ""
    told = ", ".join(f"{name} = {json.dumps(value)}" for name, value in sorted(soup.options.items()))
    rows = [(part.name, f"`{part.sha256}`", f"{part.coefficient:.6g}") for part in soup.ingredients]
    notes = [text for text in (soup.summary, soup.integers) if text]
    table = markdown_columns([("ingredient", "SHA-256", "coefficient"), *rows], [])
    lines = [f"Recipe: `{soup.recipe}`" + (f" ({told})" if told else "") + ".", *notes]
    return "## Ingredients\n\n" + "\n".join(lines) + f"\n\n{table}"


def _training(card: Card) -> str:
    lines = [f"- {name}: `{json.dumps(value)}`" for name, value in sorted(card.training.items())]
    lines += [f"- {what}: `{value}`" for what, value in (("data", card.data), ("split", card.split)) if value]
    lines += [f"- start: SHA-256 `{card.start}`"] if card.start else []
    return "\n".join(lines) or "Nothing is known of it."
