"""Maps for the grid of wrong images: what spoke for the prediction, and what for the truth."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from soups.core.errors import UsageError
from soups.data.images.cache import Images
from soups.explain.settings import AUTO, MapSettings, check_method
from soups.pipeline.run.model_files import load_model
from soups.pipeline.score.context import RunContext, class_positions
from soups.report.answers import LabelledPredictions
from soups.report.figures.overlays import overlay
from soups.report.figures.wrong_images import wrong_rows
from soups.runtime.devices import limit_threads


def parse_method(explain: Sequence[str] | None) -> str | None:
    """The method that `--explain` asks for; None without it.

    Raises:
        UsageError: an unknown one, or several.
    """
    if explain is None:
        return None
    if len(explain) > 1:
        raise UsageError("--explain: several methods", expected="one", found=", ".join(explain))
    method = explain[0] if explain else AUTO
    check_method(method)
    return method


def draw_wrong_maps(
    context: RunContext, path: Path, answers: LabelledPredictions, images: Images, method: str, most: int
) -> tuple[dict[int, list[np.ndarray]], str]:
    """Overlays of the wrong images that are shown, by row, and what they are, in words.

    Raises:
        UsageError: the method does not suit the model.
    """
    rows = wrong_rows(answers)[:most]
    if not len(rows):
        return {}, ""
    from soups.explain.methods import METHODS, explain, resolve_method

    limit_threads(context.runtime.threads)
    classifier, card = load_model(context.run, path)
    classifier.to(context.runtime.device)
    order, pixels = class_positions(card, answers.space, path, context.run.name), images.take(rows)
    method = resolve_method(classifier, pixels, card.preprocessing, MapSettings(method=method))
    asked, told = [answers.predictions], f"maps: {method} for the prediction"
    if METHODS[method].class_specific:
        asked, told = [*asked, answers.labels], f"{told}, then for the truth"
    heats = [explain(classifier, pixels, order[labels[rows]], card.preprocessing, method) for labels in asked]
    laid = {int(row): [overlay(pixels[at], heat[at]) for heat in heats] for at, row in enumerate(rows)}
    return laid, told
