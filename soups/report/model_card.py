"""The README.md of a model's folder: classes, preprocessing, scores, ingredients and training of the model."""

import json
from collections.abc import Mapping

from soups.checkpoints.card import Card
from soups.core.metrics import METRICS
from soups.core.preprocessing import Preprocessing
from soups.report.tables import MISSING, markdown_table
from soups.report.templates import render_template

_KINDS = {"start": "A start, not fine-tuned,", "fine-tune": "A fine-tune", "soup": "A soup of fine-tunes"}


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
    soup = card.soup
    metrics = list(dict.fromkeys(metric for values in scores.values() for metric in values))
    score_rows = [
        (of, str(images.get(of, MISSING)), *(_format_score(metric, values.get(metric)) for metric in metrics))
        for of, values in scores.items()
    ]
    parts = soup.ingredients if soup else ()
    ingredients = [(part.name, f"`{part.sha256}`", f"{part.coefficient:.6g}") for part in parts]
    options = sorted(soup.options.items()) if soup else []
    training = [(key, json.dumps(value)) for key, value in sorted(card.training.items())]
    training += [(key, value) for key, value in (("data", card.data), ("split", card.split)) if value]
    return render_template(
        "model_card.jinja",
        name=name,
        card=card,
        soup=soup,
        sha256=sha256,
        library=library,
        usage=usage,
        kind=_KINDS[card.kind],
        classes=markdown_table([("logit", "class"), *((str(index), each) for index, each in enumerate(card.classes))]),
        steps=_preprocessing_steps(card.preprocessing),
        scores=markdown_table([("set", "images", *metrics), *score_rows]) if scores else "",
        options=", ".join(f"{key} = {json.dumps(value)}" for key, value in options),
        ingredients=markdown_table([("ingredient", "SHA-256", "coefficient"), *ingredients]),
        training=training,
    )


def _preprocessing_steps(given: Preprocessing) -> list[str]:
    side = "both sides are" if given.resize == "squash" else "the shorter side is"
    steps = [
        f"{side} resized to {given.resized} pixels ({given.interpolation}, antialiased)",
        f"a centred square of {given.size} × {given.size} pixels is cut out",
        f"red, green and blue in [0, 1] are normalised with mean {list(given.mean)}, deviation {list(given.std)}",
    ]
    if given.cut is not None:
        middle = f"the middle {given.cut[0]} × {given.cut[1]} pixels (height × width) are cut out"
        steps.insert(0, f"**{middle}: do this yourself, since the library's own transform does not**")
    return steps


def _format_score(metric: str, value: float | None) -> str:
    if value is None:
        return MISSING
    percent = metric in METRICS and METRICS[metric].higher_is_better
    return f"{100 * value:.1f}%" if percent else f"{value:.4f}"
